# SPDX-License-Identifier: Apache-2.0
"""Where the time of a message goes: one rolling window of milliseconds a stage, reported as percentiles."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

PERCENTILES = (50, 95, 99)


class Timing:
    """Durations of named stages (convert, inference, publish and so on) over the last messages."""

    def __init__(self, window: int = 300) -> None:
        self._window = window
        self._stages: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def record(self, stage: str, milliseconds: float) -> None:
        """Adds one duration to a stage."""
        with self._lock:
            self._stages.setdefault(stage, deque(maxlen=self._window)).append(milliseconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Records the time spent in the block; a block that raises is not recorded."""
        start = time.perf_counter()
        yield
        self.record(name, (time.perf_counter() - start) * 1e3)

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._stages.clear()

    def percentiles(self) -> dict[str, tuple[int, tuple[float, ...]]]:
        """Number of samples and the percentiles 50, 95, 99 in milliseconds of each stage, in order of appearance."""
        with self._lock:
            windows = {stage: list(window) for stage, window in self._stages.items()}
        return {
            stage: (len(window), tuple(float(value) for value in np.percentile(window, PERCENTILES)))
            for stage, window in windows.items()
        }

    def message(self, stamp: Time) -> DiagnosticArray:
        """The percentiles as one status a stage, with the values `p50_ms`, `p95_ms`, `p99_ms` and `samples`."""
        return DiagnosticArray(
            header=Header(stamp=stamp),
            status=[_status(stage, count, values) for stage, (count, values) in self.percentiles().items()],
        )


def _status(stage: str, count: int, values: tuple[float, ...]) -> DiagnosticStatus:
    keyed = [KeyValue(key=f"p{rank}_ms", value=f"{value:.3f}") for rank, value in zip(PERCENTILES, values, strict=True)]
    keyed.append(KeyValue(key="samples", value=str(count)))
    return DiagnosticStatus(level=DiagnosticStatus.OK, name=stage, message=f"{values[0]:.2f} ms", values=keyed)
