# SPDX-License-Identifier: Apache-2.0
"""The parts of the base node by themselves: mailbox, timing, stamps and the verdict of the diagnostics."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from node_support import wait_for
from std_msgs.msg import Header

from perception_nodes.diagnostics import Counts, Health
from perception_nodes.errors import InvalidMessage
from perception_nodes.mailbox import Worker
from perception_nodes.stamps import StampGuard
from perception_nodes.timing import Timing


class Gate:
    """A handler that waits to be let through, one message at a time."""

    def __init__(self):
        self.done, self.pass_on = [], threading.Semaphore(0)

    def __call__(self, source, message):
        self.pass_on.acquire()
        self.done.append((source, message))


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def worker(gate):
    worker = Worker(gate, "test")
    worker.start()
    yield worker
    gate.pass_on.release(1000)
    worker.stop()


def busy(worker, gate):
    """Puts a first message and returns once it is in hand, so that later ones wait."""
    worker.put("a", 0)
    wait_for(lambda: not worker._slots)


def test_only_the_newest_waiting_message_is_handled_and_the_others_are_counted(worker, gate):
    busy(worker, gate)
    for number in range(1, 10):
        worker.put("a", number)
    gate.pass_on.release(2)
    wait_for(lambda: len(gate.done) == 2)
    assert gate.done == [("a", 0), ("a", 9)]
    assert (worker.received, worker.dropped) == (10, 8)


def test_topics_have_a_slot_each_and_are_served_in_the_order_of_waiting(worker, gate):
    busy(worker, gate)
    for source, number in (("b", 1), ("a", 2), ("b", 3)):
        worker.put(source, number)
    gate.pass_on.release(3)
    wait_for(lambda: len(gate.done) == 3)
    assert gate.done == [("a", 0), ("b", 3), ("a", 2)]
    assert worker.dropped == 1


def test_commands_are_all_handled_in_their_order(worker, gate):
    busy(worker, gate)
    for number in (1, 2):
        worker.put("command", number, every=True)
        worker.put("a", number)
    gate.pass_on.release(4)
    wait_for(lambda: len(gate.done) == 4)
    assert gate.done == [("a", 0), ("command", 1), ("a", 2), ("command", 2)]
    assert worker.dropped == 1


def test_stopping_finishes_the_message_in_hand_and_forgets_the_waiting(worker, gate):
    busy(worker, gate)
    worker.put("a", 1)
    gate.pass_on.release(1)
    worker.stop()
    worker.put("a", 2)
    worker.stop()
    assert gate.done in ([("a", 0)], [("a", 0), ("a", 1)])
    worker.start()
    worker.put("a", 3)
    gate.pass_on.release(1)
    wait_for(lambda: gate.done[-1] == ("a", 3))


def test_percentiles_equal_numpy_s_over_the_window():
    timing, values = Timing(window=50), np.random.default_rng(0).exponential(10, 80)
    for value in values:
        timing.record("convert", value)
    count, percentiles = timing.percentiles()["convert"]
    assert count == 50
    np.testing.assert_allclose(percentiles, np.percentile(values[-50:], [50, 95, 99]))


def test_a_block_that_raises_is_not_timed():
    timing = Timing()
    with pytest.raises(KeyError), timing.stage("bad"):
        raise KeyError
    with timing.stage("good"):
        pass
    assert list(timing.percentiles()) == ["good"]


def header(seconds, frame="lidar"):
    nanoseconds = round(seconds * 1e9)
    return Header(stamp=Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9), frame_id=frame)


def check(guard, seconds, frame="lidar", now=100.0, max_age=0.0):
    return guard.check(header(seconds, frame), int(now * 1e9), max_age, jump=1.0)


def test_stamps_must_advance_or_start_again():
    guard = StampGuard()
    assert [check(guard, seconds) for seconds in (50.0, 50.1, 90.0)] == [False, False, False]
    for seconds, text in ((90.0, "repeats"), (89.5, "0.500 s before")):
        with pytest.raises(InvalidMessage, match=text):
            check(guard, seconds)
    assert check(guard, 89.0) is True
    assert check(guard, 89.1) is False


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"seconds": 0}, "zero"),
        ({"seconds": -5}, "zero"),
        ({"seconds": 5, "frame": ""}, "frame_id"),
        ({"seconds": 98, "max_age": 1.0}, "2.000 s old"),
    ],
)
def test_headers_that_cannot_be_used_are_refused_and_not_remembered(values, text):
    guard = StampGuard()
    with pytest.raises(InvalidMessage, match=text):
        check(guard, **values)
    assert check(guard, 99.5, max_age=1.0) is False


def status(health, counts=None, state="active", transition_error="", silence=60.0):
    return health.status(
        name="/node",
        state=state,
        transition_error=transition_error,
        counts=counts or Counts(),
        silence=silence,
        sources="/points",
        engine={"backend": "fake"},
    )


def test_the_verdict_tells_of_the_last_second_only():
    health = Health()
    health.last_error = "too old"
    assert status(health, Counts(received=5, processed=5)).level == DiagnosticStatus.OK
    told = status(health, Counts(received=9, processed=6, dropped=1, rejected=2))
    assert (told.level, told.message) == (DiagnosticStatus.WARN, "1 dropped, 2 rejected; last: too old")
    assert status(health, Counts(received=9, processed=6, dropped=1, rejected=2)).level == DiagnosticStatus.OK
    assert status(health, Counts(received=10, failed=1)).level == DiagnosticStatus.ERROR


def test_silence_is_stale_only_while_active():
    health = Health()
    health.last_input -= 10
    told = status(health, silence=5.0)
    assert told.level == DiagnosticStatus.STALE
    assert "no input on /points" in told.message
    assert status(health, silence=5.0, state="inactive").level == DiagnosticStatus.OK


def test_a_failed_transition_stays_an_error_until_one_succeeds():
    health = Health()
    for _ in range(2):
        told = status(health, transition_error="configure failed: no weights", state="unconfigured")
        assert (told.level, told.message) == (DiagnosticStatus.ERROR, "configure failed: no weights")
    assert status(health, state="inactive").level == DiagnosticStatus.OK
