# SPDX-License-Identifier: Apache-2.0
"""Judges the detections of a bag's scans against the truth that the bag carries, and writes the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perception_models.classes import CLASSES
from perception_models.evaluation import detection_report as parts
from perception_models.evaluation.coverage import ImageCoverage
from perception_models.evaluation.detection import DetectionMetrics, EvaluationSettings, evaluate_detections
from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.machine import machine
from perception_models.evaluation.matching import FrameResult, Indices, Mask
from perception_models.evaluation.report import Report, write_metrics, write_report
from perception_models.geometry.boxes import Floats, points_in_boxes
from perception_nodes.bag_messages import Objects
from perception_nodes.scans import Scan, ScanBag

if TYPE_CHECKING:
    from perception_models.detection import Detector

PICTURES = 3
INTERVAL_NOTE = "± is half the width of the 95 % interval of a bootstrap over blocks of time: a drive has few objects."

Find = Callable[[Scan], Objects | None]


@dataclass
class Run:
    """What came of a bag: one result for each judged scan with its stamp, and figures that are not accuracy."""

    frames: list[FrameResult] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)


def run_detector(detector: Detector, latency: LatencyLog) -> Find:
    """A finder that calls the detector in process and logs its latencies, but for the first call, a warm-up."""
    calls = 0

    def find(scan: Scan) -> Objects:
        nonlocal calls
        found = detector.detect(scan.points)
        if calls:
            latency.add(detector.timing)
        calls += 1
        names = [found.names[label] for label in found.labels]
        return Objects(found.boxes, names, [""] * len(names), found.scores)

    return find


def recorded(bag: ScanBag) -> Find:
    """A finder that looks up the detections that the bag holds."""
    answers = bag.recorded()
    return lambda scan: answers.get(scan.stamp)


def judge(bag: ScanBag, find: Find, scans: Iterable[Scan]) -> Run:
    """Find objects in every scan; scans without truth or without an answer are not judged but counted."""
    run, coverage = Run(), bag.coverage()
    run.figures = {"scans": 0.0, "scans_without_truth": 0.0, "scans_without_answer": 0.0}
    for scan in scans:
        found = find(scan)
        run.figures["scans"] += 1
        run.figures["scans_without_answer"] += found is None
        run.figures["scans_without_truth"] += scan.objects is None
        if found is not None and scan.objects is not None:
            run.frames.append(frame_result(scan, scan.objects, found, coverage))
            run.stamps.append(scan.stamp)
    run.figures["scans_rejected"] = float(len(bag.rejected))
    return run


def frame_result(scan: Scan, truth: Objects, found: Objects, coverage: ImageCoverage | None) -> FrameResult:
    """One scan's detections and truth as arrays. Where an object of no known class lies, the truth is silent."""
    known = np.array([name in CLASSES for name in truth.names], bool)
    wanted = np.array([name in CLASSES for name in found.names], bool)
    boxes, silent = truth.boxes[known], truth.boxes[~known]

    def covered(places: Floats) -> Mask:
        flat = places * np.array([1, 1, 0])
        inside = points_in_boxes(flat, silent * np.array([1, 1, 0, 1, 1, 1, 1])).any(axis=1)
        seen = np.ones(len(places), bool) if coverage is None else coverage.covers(places, scan.ignored)
        return seen & ~inside

    return FrameResult(
        boxes=found.boxes[wanted],
        scores=found.scores[wanted],
        labels=_labels(found.names, wanted),
        truth_boxes=boxes,
        truth_labels=_labels(truth.names, known),
        truth_points=points_in_boxes(scan.points, boxes).sum(axis=0),
        covered=covered(found.boxes[wanted, :3]),
        truth_covered=covered(boxes[:, :3]),
    )


def _labels(names: list[str], chosen: Mask) -> Indices:
    return np.array([CLASSES.index(name) for name, kept in zip(names, chosen, strict=True) if kept], np.int64)


def write_results(
    out: Path, title: str, bag: ScanBag, run: Run, settings: EvaluationSettings, facts: Mapping[str, str]
) -> DetectionMetrics:
    """Write metrics.json and report.html of a run into `out`."""
    metrics = evaluate_detections(run.frames, CLASSES, settings)
    intervals = {f"{name}_interval": half for name, half in metrics.intervals.items()}
    facts = {"judged": _conditions(settings), **facts, **machine()}
    figures = {**metrics.values, **intervals, **run.figures}
    write_metrics(out, {"detection": figures, "run": dict(facts)})
    counts = {name.replace("_", " "): f"{value:g}" for name, value in run.figures.items() if "latency" not in name}
    report = Report(
        title=title,
        facts={**facts, **counts},
        tables=[
            parts.accuracy_table(metrics, settings),
            parts.working_table(metrics, settings),
            parts.latency_table(run.figures),
        ],
        plots=list(parts.curve_plots(metrics)),
        pictures=_pictures(bag, run, metrics, settings),
        notes=[INTERVAL_NOTE],
    )
    write_report(out, report)
    return metrics


def _pictures(
    bag: ScanBag, run: Run, metrics: DetectionMetrics, settings: EvaluationSettings
) -> list[tuple[str, bytes]]:
    """The worst and the best scans, read from the bag once more: keeping all points would take gigabytes."""
    extremes = parts.extreme_scans(metrics.outcomes, min(PICTURES, len(run.frames) // 2))
    indices = [index for chosen in extremes.values() for index in chosen]
    points = {scan.stamp: scan.points for scan in bag if scan.stamp in {run.stamps[index] for index in indices}}
    pictures = []
    for kind, chosen in extremes.items():
        for index in chosen:
            frame, outcome = run.frames[index], metrics.outcomes[index]
            title = f"{kind}: scan {index}, {len(outcome.missed)} missed, {len(outcome.false)} false"
            png = parts.draw_scan(points[run.stamps[index]], frame, outcome, title, settings.max_range)
            pictures.append((title, png))
    return pictures


def _conditions(settings: EvaluationSettings) -> str:
    return f"objects with {settings.min_points} points or more within {settings.max_range:g} m"
