# SPDX-License-Identifier: Apache-2.0
"""The health of a node: what it counted, how old its results are, what it runs on, as one /diagnostics status."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
TROUBLES = ("dropped", "rejected", "no_result", "warnings")


@dataclass(frozen=True)
class Counts:
    """Messages since the start: received and dropped before their turn; processed, or why not; warnings given."""

    received: int = 0
    dropped: int = 0
    processed: int = 0
    rejected: int = 0
    no_result: int = 0
    failed: int = 0
    warnings: int = 0


class Health:
    """Counts outcomes and turns them into a status. Each counter is written by one thread only."""

    def __init__(self) -> None:
        self.processed = self.rejected = self.no_result = self.failed = self.warnings = 0
        self.last_error = ""
        self.age = float("nan")
        self.last_input = time.monotonic()
        self._before = Counts()
        self._asked = time.monotonic()

    def counts(self, received: int, dropped: int) -> Counts:
        """All counters at this moment; the first two belong to the mailbox."""
        outcomes = (self.processed, self.rejected, self.no_result, self.failed, self.warnings)
        return Counts(received, dropped, *outcomes)

    def status(
        self,
        *,
        name: str,
        state: str,
        transition_error: str,
        counts: Counts,
        silence: float,
        sources: str,
        engine: Mapping[str, object],
        facts: Mapping[str, object] = MappingProxyType({}),
    ) -> DiagnosticStatus:
        """The status of the time since the last call: rates and the level come from what changed in between.

        `silence` is how many seconds without input make an active node stale, `sources` names its inputs; `facts`
        are further values, named by the node.
        """
        now = time.monotonic()
        if counts.received > self._before.received or state != "active":
            self.last_input = now
        is_silent = now - self.last_input > silence
        level, message = self._verdict(state, counts, is_silent, sources)
        if transition_error:
            level, message = ERROR, transition_error
        values: dict[str, object] = {"state": state, "rate_hz": f"{self._rate(counts, now):.2f}"}
        values |= {**vars(counts), "age_s": f"{self.age:.4f}"}
        values |= {f"engine_{key}": value for key, value in engine.items()}
        values |= facts
        values["last_error"] = transition_error or self.last_error
        self._before, self._asked = counts, now
        keyed = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=name, message=message, values=keyed)

    def _rate(self, counts: Counts, now: float) -> float:
        return (counts.processed - self._before.processed) / max(now - self._asked, 1e-9)

    def _verdict(self, state: str, counts: Counts, is_silent: bool, sources: str) -> tuple[bytes, str]:
        """The level and the one line that says why."""
        if counts.failed > self._before.failed:
            return ERROR, f"processing failed: {self.last_error}"
        if is_silent:
            return STALE, f"no input on {sources}: is it published, remapped to this name, and of this type?"
        new = {key: getattr(counts, key) - getattr(self._before, key) for key in TROUBLES}
        if any(new.values()):
            text = ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in new.items() if count)
            return WARN, f"{text}; last: {self.last_error}" if self.last_error else text
        return OK, state
