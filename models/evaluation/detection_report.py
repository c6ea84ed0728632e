# SPDX-License-Identifier: Apache-2.0
"""The parts of a report that detection fills: tables, curves, and bird's-eye pictures of scans."""

from collections.abc import Iterator

import numpy as np

from perception_models.classes import CLASSES
from perception_models.evaluation import pictures
from perception_models.evaluation.detection import DetectionMetrics, EvaluationSettings, Outcome
from perception_models.evaluation.matching import FrameResult
from perception_models.evaluation.report import Plot, Table, as_cell
from perception_models.geometry.boxes import Floats

KINDS = {"bev": "bird's eye", "3d": "3D"}
WORKING = ("objects", "working_recall", "working_precision", "false_per_frame", "working_score", "highest_recall")


def accuracy_table(metrics: DetectionMetrics, settings: EvaluationSettings) -> Table:
    """Average precision of each class and overlap: within the range with its interval, and by distance."""
    header = ["AP (R40), %", f"0-{settings.max_range:g} m", *(f"{near}-{far} m" for near, far in settings.bands)]
    rows = [[_label(key), _with_interval(metrics, key), *_banded(metrics, key, settings)] for key in metrics.curves]
    return Table("Accuracy", header, rows)


def working_table(metrics: DetectionMetrics, settings: EvaluationSettings) -> Table:
    """Recall, precision and false objects where the recall is the wanted one, or the highest reached."""
    header = ["", *(name.replace("_", " ") for name in WORKING)]
    rows = [
        [name, *(as_cell(metrics.values.get(f"{name}_{figure}")) for figure in WORKING)]
        for name in CLASSES
        if metrics.values.get(f"{name}_objects")
    ]
    title = f"At a recall of {settings.recall:.0%}, or the highest below it (bird's eye, loose overlap)"
    return Table(title, header, rows)


def curve_plots(metrics: DetectionMetrics) -> Iterator[Plot]:
    """One plot a class, a line for each overlap."""
    for name in CLASSES:
        curves = {key: curve for key, curve in metrics.curves.items() if key.startswith(name)}
        if curves:
            yield Plot(name, {_label(key): (curve.recall, curve.precision) for key, curve in curves.items()})


def extreme_scans(outcomes: list[Outcome], count: int) -> dict[str, list[int]]:
    """Indices of the scans with the most errors, and with the fewest and most found; worst and best first."""
    order = sorted(range(len(outcomes)), key=lambda index: (-outcomes[index].errors, len(outcomes[index].found)))
    return {"worst": order[:count], "best": order[::-1][:count]}


def draw_scan(points: Floats, frame: FrameResult, outcome: Outcome, title: str, reach: float) -> bytes:
    """PNG of a scan's points (N, >= 3) with what was found, missed, invented and not judged at the best F1."""
    picture = pictures.BirdsEye(points, reach)
    judged = [*outcome.found, *outcome.missed]
    picture.boxes(np.delete(frame.truth_boxes, judged, axis=0), pictures.SILENT, width=1)
    picture.boxes(frame.truth_boxes[outcome.found], pictures.TRUE)
    picture.boxes(frame.truth_boxes[outcome.missed], pictures.MISSED, width=3)
    picture.boxes(frame.boxes[outcome.hits], pictures.HIT)
    picture.boxes(frame.boxes[outcome.false], pictures.FALSE, width=3)
    picture.legend(title)
    return picture.png()


def _label(key: str) -> str:
    """`vehicle_ap_bev_50` -> `vehicle, bird's eye, IoU 0.5`."""
    name, _, kind, percent = key.split("_")
    return f"{name}, {KINDS[kind]}, IoU {int(percent) / 100:g}"


def _with_interval(metrics: DetectionMetrics, key: str) -> str:
    interval = f" ± {metrics.intervals[key]:.1f}" if key in metrics.intervals else ""
    return f"{metrics.values[key]:.1f}{interval}"


def _banded(metrics: DetectionMetrics, key: str, settings: EvaluationSettings) -> list[str]:
    return [as_cell(metrics.values.get(f"{key}_{near}_{far}m")) for near, far in settings.bands]
