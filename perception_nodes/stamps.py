# SPDX-License-Identifier: Apache-2.0
"""Stamps of one input: never zero, never twice, always forward, unless the source plainly started again."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from perception_nodes.errors import InvalidMessage


def nanoseconds(stamp: Time) -> int:
    """A stamp as integer nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


class StampGuard:
    """Checks the headers of one topic in the order in which they are processed."""

    def __init__(self) -> None:
        self._last: int | None = None

    def check(self, header: Header, now: int, max_age: float, jump: float) -> bool:
        """Whether time jumped back by more than `jump` seconds, so that the caller must forget its past.

        `now` is in nanoseconds; `max_age` in seconds, 0 accepts any age.
        Raises InvalidMessage: no frame, zero or invalid stamp, too old, repeated, or a small step back.
        """
        stamp = nanoseconds(header.stamp)
        if not header.frame_id:
            raise InvalidMessage("the header has no frame_id; set it in the driver")
        if stamp <= 0:
            raise InvalidMessage("the stamp is zero; set header.stamp to the time of measurement")
        if 0 < max_age * 1e9 < now - stamp:
            raise InvalidMessage(
                f"the message is {(now - stamp) / 1e9:.3f} s old, max_age is {max_age} s; "
                "check the clocks, and use_sim_time when a bag is played"
            )
        step = 0 if self._last is None else stamp - self._last
        if self._last is not None and -jump * 1e9 < step <= 0:
            fault = "repeats the last one" if step == 0 else f"is {-step / 1e9:.3f} s before the last one"
            raise InvalidMessage(f"the stamp {fault}; one source must publish each measurement once, in order")
        self._last = stamp
        return step < 0
