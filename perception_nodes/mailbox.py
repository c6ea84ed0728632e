# SPDX-License-Identifier: Apache-2.0
"""One slot a topic and one thread: a slow consumer always gets the newest message, and drops are counted; of commands
none is dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any


class Worker:
    """Hands each stored message to `handle(source, message)` on one thread of its own.

    `put` never waits for the work: it stores the newest message of a source and counts the one it replaces. Messages
    that wait are served in the order in which they began to wait. Exceptions must be handled by `handle`.
    """

    def __init__(self, handle: Callable[[Any, Any], None], name: str) -> None:
        self._handle = handle
        self._name = name
        self._slots: dict[Hashable, tuple[Any, Any]] = {}
        self._changed = threading.Condition()
        self._running = False
        self._thread: threading.Thread | None = None
        self.received = 0
        self.dropped = 0

    def start(self) -> None:
        """Starts the thread; messages that come before are ignored."""
        self._running = True
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Forgets what waits, lets the message in hand be finished and ends the thread. May be called again."""
        with self._changed:
            self._running = False
            self._slots.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def put(self, source: Hashable, message: Any, every: bool = False) -> None:
        """Stores the newest message of a source, or `every` one of it, and wakes the thread."""
        with self._changed:
            if not self._running:
                return
            self.received += 1
            slot = (source, self.received) if every else source
            self.dropped += slot in self._slots
            self._slots[slot] = source, message
            self._changed.notify()

    def _work(self) -> None:
        while (item := self._take()) is not None:
            self._handle(*item)

    def _take(self) -> tuple[Hashable, Any] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._slots or not self._running)
            if not self._running:
                return None
            return self._slots.pop(next(iter(self._slots)))
