# SPDX-License-Identifier: Apache-2.0
"""The robot's side of a replay: sends a node its messages and transforms, hears its answers and its health."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from perception_nodes import bags
from perception_nodes.bags import RawMessage
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.node_process import NodeProcess
from perception_nodes.played import Played
from perception_nodes.transforms import DYNAMIC, STATIC

REPORT_PERIOD = 3.0  # s; the node reports every second


class ReplayError(RuntimeError):
    """The node did not start, ended, failed, or did not answer."""


class Answer(NamedTuple):
    """A serialized answer, and when they came, on the clock of `time.perf_counter`."""

    data: bytes
    received: float


class NodeClient:
    """One ROS node in a context of its own, opposite to the node played to; a context manager.

    `refused` counts the messages that the node took without an answer, `complaint` is its last word on that, `stages`
    the milliseconds (p50_ms, p95_ms, p99_ms) of each stage of its work over its last messages.
    """

    def __init__(self, played: Played) -> None:
        self._played = played

    def __enter__(self) -> NodeClient:
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = Node("perception_replay", context=self._context)
        self._answers: queue.Queue[Answer] = queue.Queue()
        self.refused, self.complaint, self._failure = 0, "", ""
        self.stages: dict[str, dict[str, float]] = {}
        played, name = self._played, self._played.name
        qos = {bags.TF: DYNAMIC, bags.TF_STATIC: STATIC}
        self._transforms = {
            topic: self._node.create_publisher(TFMessage, topic, qos[topic]) for topic in played.transforms
        }
        self._beside = {
            source: self._node.create_publisher(kind, f"/{name}/{topic}", 1) for source, topic, kind in played.beside
        }
        self._input = self._node.create_publisher(played.kind, f"/{name}/{played.input}", 1)
        self._node.create_subscription(played.answer_kind, f"/{name}/{played.answer}", self._take, 10, raw=True)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._take_health, 10)
        # Made after the answers' subscription: who reaches this one has found that one.
        self._heard = threading.Event()
        self._node.create_subscription(DiagnosticArray, f"/{name}/timing", self._take_timing, 10)
        self._executor = BackgroundExecutor(self._node, "replay")
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.stop()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _take(self, data: bytes) -> None:
        self._answers.put(Answer(bytes(data), time.perf_counter()))

    def _take_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"/{self._played.name}":
                values = {value.key: value.value for value in status.values}
                self.complaint = values["last_error"]
                self.refused = sum(int(values[key]) for key in ("rejected", "no_result"))
                if status.level == DiagnosticStatus.ERROR:
                    self._failure = status.message

    def _take_timing(self, message: DiagnosticArray) -> None:
        self.stages = {status.name: {v.key: float(v.value) for v in status.values} for status in message.status}
        self._heard.set()

    def connect(self, node: NodeProcess, timeout: float, with_transforms: bool) -> None:
        """Wait until the node listens and reaches this side. Raises ReplayError where it does not, or another does."""
        end, name = time.monotonic() + timeout, self._played.name
        awaited = [self._input, *self._beside.values(), *(self._transforms.values() if with_transforms else ())]
        while not (self._heard.is_set() and all(sender.get_subscription_count() for sender in awaited)):
            self.check(node)
            if time.monotonic() > end:
                raise ReplayError(f"{name} was not active after {timeout:g} s; see {node.log}:\n{node.last_words()}")
            time.sleep(0.02)
        if self._input.get_subscription_count() > 1:
            raise ReplayError(f"another {name} runs in this ROS domain; stop it, or set ROS_DOMAIN_ID to a free number")

    def check(self, node: NodeProcess) -> None:
        """Raises ReplayError, in the node's own words, where it ended or reports an error."""
        if not node.is_running:
            raise ReplayError(f"{self._played.name} ended; the end of {node.log}:\n{node.last_words()}")
        if self._failure:
            raise ReplayError(f"{self._played.name}: {self._failure} (its log: {node.log})")

    def send(self, message: RawMessage) -> float:
        """Publish a serialized message that the node answers; gives back the time at which it was sent."""
        sent = time.perf_counter()
        self._input.publish(message.data)
        return sent

    def send_beside(self, message: RawMessage) -> None:
        """Publish the message where it is one of those that accompany the answered ones."""
        if message.topic in self._beside:
            self._beside[message.topic].publish(message.data)

    def send_transforms(self, message: RawMessage) -> None:
        """Publish the message where it is one of the transforms that the node gets."""
        if message.topic in self._transforms:
            self._transforms[message.topic].publish(message.data)

    def answers(self, wait: float) -> Iterator[Answer]:
        """The answers that came since the last call; waits up to `wait` seconds for the first."""
        try:
            yield self._answers.get(timeout=wait) if wait else self._answers.get_nowait()
            while True:
                yield self._answers.get_nowait()
        except queue.Empty:
            return

    def await_report(self) -> None:
        """Wait for the node's next report, so that `refused` and `stages` hold all that was sent."""
        self._heard.clear()
        self._heard.wait(REPORT_PERIOD)
