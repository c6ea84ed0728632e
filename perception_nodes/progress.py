# SPDX-License-Identifier: Apache-2.0
"""A progress bar on a terminal for what takes longer than two seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
WIDTH, PATIENCE, PERIOD = 30, 2.0, 0.2


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Pass the items on; after two seconds show how many of `total` are done. Silent where stderr is no terminal."""
    start = time.monotonic()
    due = start + PATIENCE if sys.stderr.isatty() else float("inf")
    shown = False
    for done, item in enumerate(items):
        now = time.monotonic()
        if now >= due:
            due, shown = now + PERIOD, True
            sys.stderr.write(f"\r{_line(done, total, label, now - start)}")
            sys.stderr.flush()
        yield item
    if shown:
        sys.stderr.write(f"\r{_line(total, total, label, time.monotonic() - start)}\n")


def _line(done: int, total: int, label: str, seconds: float) -> str:
    share = min(done / max(total, 1), 1.0)
    filled = round(share * WIDTH)
    left = f"{seconds / share - seconds:.0f} s left" if share else ""
    return f"{label} [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total} {left:12}"
