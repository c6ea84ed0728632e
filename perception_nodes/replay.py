# SPDX-License-Identifier: Apache-2.0
"""Plays a bag to a genuine node, another process beyond DDS, and records its answers."""

import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from perception_nodes.bag_types import bag_types
from perception_nodes.bags import BagReader, BagWriter, RawMessage
from perception_nodes.node_process import NodeProcess, use_fast_transport
from perception_nodes.played import DETECTION, Played
from perception_nodes.replay_client import NodeClient, ReplayError

START_TIMEOUT = 120.0  # s, for a first build of engines too
DRAIN = 2.0  # s that a real-time replay waits for late answers
# Transforms go out this long (ns) before their turn in lock-step: one that follows its cloud would come too late.
TRANSFORMS_AHEAD = 500_000_000

Watch = Callable[[Iterable[RawMessage], int], Iterable[RawMessage]]


@dataclass
class Replay:
    """What a replay measured: milliseconds from sending a message to having its answer, by stamp; MB; seconds.

    `stages` are the milliseconds that the node reports of itself, `complaint` is the last that it said of a message.
    """

    sent: int = 0
    latencies: dict[int, float] = field(default_factory=dict)
    node_memory: float = 0.0
    start_seconds: float = 0.0
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    complaint: str = ""

    @property
    def dropped(self) -> int:
        """Messages without an answer."""
        return self.sent - len(self.latencies)


def replay(
    source: Path,
    target: Path,
    played: Played = DETECTION,
    rate: float | None = None,
    topic: str | None = None,
    parameters: Mapping[str, object] | None = None,
    timeout: float = 30.0,
    watch: Watch = lambda messages, _: messages,
) -> Replay:
    """Play the bag `source` to a node; write its messages and the node's answers to the bag `target`.

    rate: None sends each message when the last is answered; else they keep their own pace times `rate`, and what the
    node cannot take is dropped. parameters: ROS parameters of the node. timeout: longest wait for an answer, seconds.
    watch: wraps the messages, given their number, to show progress.

    Raises ReplayError (the node does not start, ends, fails or does not answer) and BadBag.
    """
    use_fast_transport()
    with ExitStack() as stack:
        bag = stack.enter_context(BagReader(source))
        bag.require_ros2()
        topics = [name for name, kind in bag.types.items() if kind in bag_types().fielddefs and name != played.record]
        session = Session(played, played.source(bag, topic), stack.enter_context(BagWriter(target)), timeout)
        # Best effort, as on a robot, loses messages now and then; in lock-step none may be lost.
        given = {"reliable_input": rate is None, **(parameters or {})}
        node = NodeProcess(played.module, given, target.with_suffix(".node.log"))
        session.start(stack, node, with_transforms=bool(given.keys() & {"target_frame", "fixed_frame", "map_frame"}))
        messages = watch(bag.raw(topics), sum(bag.count(name) for name in topics))
        if rate is None:
            session.play_in_step(messages)
        else:
            session.play_in_time(messages, rate)
        return session.finish()


class Session:
    """One node and one bag being written."""

    def __init__(self, played: Played, topic: str, out: BagWriter, timeout: float) -> None:
        self._played, self._topic, self._out, self._timeout = played, topic, out, timeout
        self._result = Replay()
        self._sent: dict[int, float] = {}

    def start(self, stack: ExitStack, node: NodeProcess, with_transforms: bool) -> None:
        """Start the node and connect to it; both end with the stack."""
        began = time.monotonic()
        self._client = stack.enter_context(NodeClient(self._played))
        self._node = stack.enter_context(node)
        self._client.connect(self._node, START_TIMEOUT, with_transforms)
        self._result.start_seconds = time.monotonic() - began

    def play_in_step(self, messages: Iterable[RawMessage]) -> None:
        """Send each message when the one before is answered or refused: nothing is dropped, however slow the node."""
        for message in self._transforms_ahead(messages):
            self._out.write_raw(message)
            self._client.send_beside(message)
            if message.topic == self._topic:
                self._wait_for(self._send(message))

    def play_in_time(self, messages: Iterable[RawMessage], rate: float) -> None:
        """Send the messages at their own pace times `rate`, whether or not the node keeps up."""
        start, first = time.perf_counter(), None
        for message in messages:
            first = message.stamp if first is None else first
            time.sleep(max(0.0, start + (message.stamp - first) / 1e9 / rate - time.perf_counter()))
            self._client.send_transforms(message)
            self._client.send_beside(message)
            self._out.write_raw(message)
            if message.topic == self._topic:
                self._send(message)
            self._collect()
        end = time.monotonic() + DRAIN
        while self._result.dropped and time.monotonic() < end:
            self._collect(wait=0.1)

    def finish(self) -> Replay:
        """What was measured."""
        self._client.await_report()
        self._client.check(self._node)
        self._result.stages, self._result.complaint = self._client.stages, self._client.complaint
        self._result.node_memory = self._node.peak_memory()
        return self._result

    def _transforms_ahead(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        """The messages in their order, while transforms are sent TRANSFORMS_AHEAD before their turn."""
        waiting: deque[RawMessage] = deque()
        for message in messages:
            self._client.send_transforms(message)
            waiting.append(message)
            while message.stamp - waiting[0].stamp > TRANSFORMS_AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _send(self, message: RawMessage) -> int:
        """Send a message and give its stamp."""
        stamp = header_stamp(message.data)
        self._sent[stamp] = self._client.send(message)
        self._result.sent += 1
        return stamp

    def _wait_for(self, stamp: int) -> None:
        """Wait until a message is answered, or the node reports one more that it refused."""
        refused = self._result.dropped - 1
        end = time.monotonic() + self._timeout
        while stamp not in self._result.latencies and self._client.refused <= refused:
            if time.monotonic() > end:
                raise ReplayError(
                    f"no answer to the message at {stamp / 1e9:.3f} within {self._timeout:g} s; "
                    f"the end of {self._node.log}:\n{self._node.last_words()}"
                )
            self._collect(wait=0.2)

    def _collect(self, wait: float = 0.0) -> None:
        """Record the answers that came, waiting for the first. Raises ReplayError where the node ended or failed."""
        self._client.check(self._node)
        for answer in self._client.answers(wait):
            stamp = header_stamp(answer.data)
            if stamp in self._sent:
                self._result.latencies[stamp] = 1e3 * (answer.received - self._sent[stamp])
                self._out.write_raw(RawMessage(self._played.record, self._played.answer_type, stamp, answer.data))


def header_stamp(data: bytes) -> int:
    """Stamp in nanoseconds of a serialized message that begins with a header."""
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    return int(seconds) * 10**9 + int(nanoseconds)
