# SPDX-License-Identifier: Apache-2.0
"""Plays a bag's clouds to the genuine detection node, another process beyond DDS, and records its answers."""

import queue
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3DArray

from perception_nodes import bags
from perception_nodes.bag_types import bag_types
from perception_nodes.bags import BagReader, BagWriter, RawMessage
from perception_nodes.errors import InvalidMessage
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.node_process import NodeProcess, use_fast_transport
from perception_nodes.point_clouds import decode_points, require_finite

MODULE, NAME = "perception_nodes.detection_node", "detection_node"
DETECTIONS_TYPE = "vision_msgs/msg/Detection3DArray"
START_TIMEOUT = 120.0  # s, for a first build of engines too
RESEND = 3.0  # s; clouds travel by best effort and may be lost, and a node refuses one that it had already
DRAIN = 2.0  # s that a real-time replay waits for late answers

Watch = Callable[[Iterable[RawMessage], int], Iterable[RawMessage]]


class ReplayError(RuntimeError):
    """The node did not start, ended, or did not answer."""


@dataclass
class Replay:
    """What a replay measured: milliseconds from sending a cloud to having its detections, by stamp; MB; seconds."""

    sent: int = 0
    latencies: dict[int, float] = field(default_factory=dict)
    node_memory: float = 0.0
    start_seconds: float = 0.0

    @property
    def dropped(self) -> int:
        """Clouds without an answer."""
        return self.sent - len(self.latencies)


class Answer(NamedTuple):
    """Serialized detections, and when they came, on the clock of `time.perf_counter`."""

    data: bytes
    received: float


class DetectionClient:
    """The robot's side: publishes clouds to the node and collects its answers. A context manager."""

    def __enter__(self) -> "DetectionClient":
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = Node("perception_replay", context=self._context)
        self._answers: queue.Queue[Answer] = queue.Queue()
        self._clouds = self._node.create_publisher(PointCloud2, f"/{NAME}/points", 1)
        self._detections = self._node.create_subscription(
            Detection3DArray, f"/{NAME}/detections", self._take, 10, raw=True
        )
        # Made after the detections' subscription: who reaches this one has found that one.
        self._heard = threading.Event()
        self._node.create_subscription(DiagnosticArray, f"/{NAME}/timing", lambda _: self._heard.set(), 10, raw=True)
        self._executor = BackgroundExecutor(self._node, "replay")
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.stop()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _take(self, data: bytes) -> None:
        self._answers.put(Answer(bytes(data), time.perf_counter()))

    def answers(self, wait: float) -> Iterator[Answer]:
        """The answers that came since the last call; waits up to `wait` seconds for the first."""
        try:
            yield self._answers.get(timeout=wait) if wait else self._answers.get_nowait()
            while True:
                yield self._answers.get_nowait()
        except queue.Empty:
            return

    def connect(self, node: NodeProcess, timeout: float) -> None:
        """Wait until the node listens and reaches this side. Raises ReplayError where it does not, or another does."""
        end = time.monotonic() + timeout
        while not (self._clouds.get_subscription_count() and self._heard.is_set()):
            if not node.is_running:
                raise ReplayError(f"{NAME} ended while starting; the end of {node.log}:\n{node.last_words()}")
            if time.monotonic() > end:
                raise ReplayError(f"{NAME} was not active after {timeout:g} s; see {node.log}:\n{node.last_words()}")
            time.sleep(0.02)
        if self._clouds.get_subscription_count() > 1:
            raise ReplayError(f"another {NAME} runs in this ROS domain; stop it, or set ROS_DOMAIN_ID to a free number")

    def send(self, cloud: RawMessage) -> float:
        """Publish a serialized cloud; gives back the time at which it was sent."""
        sent = time.perf_counter()
        self._clouds.publish(cloud.data)
        return sent


def replay(
    source: Path,
    target: Path,
    rate: float | None = None,
    topic: str | None = None,
    parameters: Mapping[str, object] | None = None,
    timeout: float = 30.0,
    watch: Watch = lambda messages, _: messages,
) -> Replay:
    """Play the bag `source` to a detection node; write its messages and the detections to the bag `target`.

    rate: None sends each cloud when the last is answered; else messages keep their own pace times `rate`, and what the
    node cannot take is dropped. parameters: ROS parameters of the node. timeout: longest wait for an answer, seconds.
    watch: wraps the messages, given their number, to show progress.

    Raises ReplayError (the node does not start, ends or does not answer) and BadBag.
    """
    use_fast_transport()
    with ExitStack() as stack:
        bag = stack.enter_context(BagReader(source))
        topics = [name for name, kind in bag.types.items() if kind in bag_types().fielddefs]
        session = Session(bag.cloud_topic(topic), stack.enter_context(BagWriter(target)), timeout)
        session.start(stack, NodeProcess(MODULE, parameters or {}, target.with_suffix(".node.log")))
        messages = watch(bag.raw(topics), sum(bag.count(name) for name in topics))
        if rate is None:
            session.play_in_step(messages)
        else:
            session.play_in_time(messages, rate)
        return session.finish()


class Session:
    """One node and one bag being written."""

    def __init__(self, topic: str, out: BagWriter, timeout: float) -> None:
        self._topic, self._out, self._timeout = topic, out, timeout
        self._result = Replay()
        self._sent: dict[int, float] = {}

    def start(self, stack: ExitStack, node: NodeProcess) -> None:
        """Start the node and connect to it; both end with the stack."""
        began = time.monotonic()
        self._client = stack.enter_context(DetectionClient())
        self._node = stack.enter_context(node)
        self._client.connect(self._node, START_TIMEOUT)
        self._result.start_seconds = time.monotonic() - began

    def play_in_step(self, messages: Iterable[RawMessage]) -> None:
        """Send each cloud when the one before is answered: nothing is dropped, however slow the node."""
        for message in messages:
            stamp = self._pass_on(message)
            if stamp is not None and is_usable(message):
                self._wait_for(stamp, message)

    def play_in_time(self, messages: Iterable[RawMessage], rate: float) -> None:
        """Send the messages at their own pace times `rate`, whether or not the node keeps up."""
        start, first = time.perf_counter(), None
        for message in messages:
            first = message.stamp if first is None else first
            time.sleep(max(0.0, start + (message.stamp - first) / 1e9 / rate - time.perf_counter()))
            self._pass_on(message)
            self._collect()
        end = time.monotonic() + DRAIN
        while self._result.dropped and time.monotonic() < end:
            self._collect()
            time.sleep(0.01)

    def finish(self) -> Replay:
        """What was measured."""
        self._result.node_memory = self._node.peak_memory()
        return self._result

    def _pass_on(self, message: RawMessage) -> int | None:
        """Write a message; send it if it is a cloud, and give its stamp."""
        self._out.write_raw(message)
        if message.topic != self._topic:
            return None
        stamp = header_stamp(message.data)
        self._sent[stamp] = self._client.send(message)
        self._result.sent += 1
        return stamp

    def _wait_for(self, stamp: int, message: RawMessage) -> None:
        end = time.monotonic() + self._timeout
        again = time.monotonic() + RESEND
        while stamp not in self._result.latencies:
            if time.monotonic() > again:
                self._client.send(message)
                again += RESEND
            if not self._node.is_running:
                raise ReplayError(f"{NAME} ended; the end of {self._node.log}:\n{self._node.last_words()}")
            if time.monotonic() > end:
                raise ReplayError(
                    f"no answer to the cloud at {stamp / 1e9:.3f} within {self._timeout:g} s; "
                    f"the end of {self._node.log}:\n{self._node.last_words()}"
                )
            self._collect(wait=0.2)

    def _collect(self, wait: float = 0.0) -> None:
        """Record the answers that came, waiting for the first."""
        for answer in self._client.answers(wait):
            stamp = header_stamp(answer.data)
            if stamp in self._sent:
                self._result.latencies[stamp] = 1e3 * (answer.received - self._sent[stamp])
                self._out.write_raw(RawMessage(bags.DETECTIONS, DETECTIONS_TYPE, stamp, answer.data))


def header_stamp(data: bytes) -> int:
    """Stamp in nanoseconds of a serialized message that begins with a header."""
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    return int(seconds) * 10**9 + int(nanoseconds)


def is_usable(cloud: RawMessage) -> bool:
    """Whether a node must answer a cloud; what is malformed or empty it rejects, and says so in its log."""
    try:
        require_finite(decode_points(bag_types().deserialize_cdr(cloud.data, cloud.type)))
    except InvalidMessage:
        return False
    return True
