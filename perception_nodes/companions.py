# SPDX-License-Identifier: Apache-2.0
"""Messages that belong to an image of the same moment: put in on one thread and waited for on another."""

from __future__ import annotations

import threading
import time
from typing import Any

from perception_nodes.errors import NoResult
from perception_nodes.stamps import nanoseconds


class Companions:
    """The newest messages of a topic, by stamp; `what` they are and which parameter limits the slop is for who misses
    one, `kept` so many wait for their image."""

    def __init__(self, what: str, slop_name: str, kept: int = 20) -> None:
        self._what, self._slop_name, self._kept = what, slop_name, kept
        self._messages: dict[int, Any] = {}
        self._changed = threading.Condition()

    def put(self, message: Any) -> None:
        """One more; the oldest goes."""
        with self._changed:
            stamp = nanoseconds(message.header.stamp)
            self._messages.pop(stamp, None)  # so that it counts as new where a source starts again
            self._messages[stamp] = message
            while len(self._messages) > self._kept:
                del self._messages[next(iter(self._messages))]
            self._changed.notify_all()

    def of(self, stamp: int, slop: float, timeout: float) -> Any:
        """The message nearest to a stamp (ns), no more than `slop` seconds from it; waits up to `timeout` seconds.

        Raises NoResult where there is none.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                near = min(self._messages, key=lambda one: abs(one - stamp), default=None)
                if near is not None and abs(near - stamp) <= slop * 1e9:
                    return self._messages[near]
                if not self._changed.wait(end - time.monotonic()):
                    raise NoResult(self._missing(stamp, near, slop))

    def _missing(self, stamp: int, near: int | None, slop: float) -> str:
        if near is None:
            return f"the view has no {self._what}: nothing came on its topic yet; is it published and remapped?"
        return (
            f"the view has no {self._what}: the nearest is {abs(near - stamp) * 1e-9:.3f} s away, {self._slop_name} "
            f"allows {slop:g} s; synchronise the sensors"
        )
