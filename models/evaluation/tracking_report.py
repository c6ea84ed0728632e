# SPDX-License-Identifier: Apache-2.0
"""The parts of a report that tracking fills: figures by name, tables, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perception_models.evaluation.report import Plot, Table, as_cell
from perception_models.evaluation.tracking import (
    FARTHEST,
    ROUNDING,
    THRESHOLDS,
    TrackResult,
    by_category,
    by_points,
    summarize,
)

COLUMNS = {  # figure: head of its column
    "tracks": "targets",
    "scans": "scans",
    "success": "Success",
    "precision": "Precision",
    "followed": "followed %",
    "lost": "said lost %",
    "wrong_object": "wrong object %",
    "until_loss_s": "until loss s",
    "never_lost": "never lost %",
    "occlusions": "occlusions",
    "reacquired": "taken up again %",
    "occluded_wrong": "wrong after %",
}
ALL = "all"


def figures_of(results: Sequence[TrackResult]) -> dict[str, float]:
    """All figures by name: `success`, `car_success`, `points_10-49_success` and so on."""
    figures = dict(summarize(results))
    for category, chosen in by_category(results).items():
        figures |= {f"{category.lower()}_{name}": value for name, value in summarize(chosen).items()}
    for band, row in by_points(results).items() if results else ():
        figures |= {f"points_{band}_{name}": value for name, value in row.items()}
    return figures


def category_table(results: Sequence[TrackResult], title: str = "By category") -> Table:
    """A row for each category, and one for all; scans weigh the same."""
    groups = {**by_category(results), ALL: results}
    return table_of({name: summarize(chosen) for name, chosen in groups.items()}, title)


def table_of(rows: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Rows of `summarize` by name."""
    cells = [[name, *(as_cell(row.get(column)) for column in COLUMNS)] for name, row in rows.items()]
    return Table(title, ["", *COLUMNS.values()], cells)


def points_table(results: Sequence[TrackResult]) -> Table:
    """Success and Precision by the points in the true box."""
    rows = [
        [band, as_cell(row["scans"]), as_cell(row["success"]), as_cell(row["precision"])]
        for band, row in by_points(results).items()
    ]
    return Table("By points in the true box", ["points", "scans", "Success", "Precision"], rows)


def curve_plots(results: Sequence[TrackResult]) -> list[Plot]:
    """The two curves whose areas are Success and Precision, a line for each category."""
    steps = np.linspace(0, 1, THRESHOLDS)
    success, precision = {}, {}
    for name, chosen in by_category(results).items():
        overlap, distance = (np.concatenate([getattr(r, column) for r in chosen]) for column in ("overlap", "distance"))
        success[name] = steps, (overlap[:, None] + ROUNDING >= steps).mean(axis=0)
        precision[name] = steps, (distance[:, None] <= FARTHEST * steps).mean(axis=0)
    return [
        Plot("Share of scans over 3D overlap", success),
        Plot(f"Share of scans over distance / {FARTHEST:g} m", precision),
    ]


def targets_table(results: Sequence[TrackResult]) -> Table:
    """A row for each target, the worst first."""
    rows = [(summarize([one]), one) for one in results]
    rows.sort(key=lambda row: row[0]["success"])
    header = ["target", "category", "scans", "Success", "Precision", "lost %", "wrong object %", "points, median"]
    return Table(
        "Targets",
        header,
        [
            [
                one.identity,
                one.category,
                *(as_cell(row[name]) for name in ("scans", "success", "precision", "lost", "wrong_object")),
                as_cell(float(np.median(one.points))),
            ]
            for row, one in rows
        ],
    )
