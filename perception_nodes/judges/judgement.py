# SPDX-License-Identifier: Apache-2.0
"""What a judge says of a bag, and how several are written down as one."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from perception_models.evaluation.machine import machine
from perception_models.evaluation.report import Report, latency_table, write_metrics, write_report

T = TypeVar("T")
# Wraps what is read from a bag, given its number and a word for it, to show progress.
Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
Options = argparse.Namespace


@dataclass(frozen=True)
class Judgement:
    """A task's report, its figures by name, and lines `name: text` for the terminal."""

    task: str
    report: Report
    figures: Mapping[str, float]
    shown: Sequence[str]

    def extended(
        self, title: str, facts: Mapping[str, str], figures: Mapping[str, float], shown: Sequence[str]
    ) -> "Judgement":
        """The same under another title, with what a replay adds."""
        counts = {name.replace("_", " "): f"{value:g}" for name, value in figures.items() if "latency" not in name}
        report = replace(
            self.report,
            title=title,
            facts={**facts, **self.report.facts, **counts},
            tables=[*self.report.tables, latency_table(figures)],
        )
        return Judgement(self.task, report, {**self.figures, **figures}, [*shown, *self.shown])


def write(out: Path, judgements: Sequence[Judgement]) -> None:
    """Write metrics.json and report.html of all tasks into `out`, with the machine that measured."""
    here = machine()
    facts = {name: text for judgement in judgements for name, text in judgement.report.facts.items()}
    write_metrics(out, {**{one.task: one.figures for one in judgements}, "run": {**facts, **here}})
    write_report(out, [replace(one.report, facts={**one.report.facts, **here}) for one in judgements])
