# SPDX-License-Identifier: Apache-2.0
"""Judges the detections of a bag's scans against the truth that the bag carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perception_models.classes import CLASSES
from perception_models.detection import Detector
from perception_models.evaluation import detection_report as parts
from perception_models.evaluation.coverage import ImageCoverage
from perception_models.evaluation.detection import DetectionMetrics, EvaluationSettings, evaluate_detections
from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.matching import FrameResult, Indices, Mask
from perception_models.evaluation.report import Report, latency_table
from perception_models.geometry.boxes import Floats, points_in_boxes
from perception_nodes.bag_messages import Objects
from perception_nodes.judges.judgement import Judgement, Options, Watch
from perception_nodes.scans import Scan, ScanBag

PICTURES = 3
SHOWN = ("bev_50", "bev_70", "3d_70", "bev_25", "3d_25", "false_per_frame")
INTERVAL_NOTE = "± is half the width of the 95 % interval of a bootstrap over blocks of time: a drive has few objects."

Find = Callable[[Scan], Objects | None]


def in_process(path: Path, options: Options, watch: Watch) -> Judgement:
    """Run the detector on every scan, in order."""
    detector, latency = load_detector(options), LatencyLog()
    with ScanBag(path, options.topic) as bag:
        run = judge(bag, run_detector(detector, latency), watch(bag, len(bag), "evaluating"))
        run.figures |= latency.summary()
        facts = {"model": options.variant, "engine": str(detector.engine_info)}
        return _judgement(f"Detection on {path.name}", bag, run, options, facts)


def recorded(path: Path, options: Options, watch: Watch) -> Judgement:
    """Judge the detections that the bag holds."""
    with ScanBag(path, options.topic) as bag:
        answers = bag.recorded()
        run = judge(bag, lambda scan: answers.get(scan.stamp), watch(bag, len(bag), "judging"))
        return _judgement(f"Detections in {path.name}", bag, run, options, {"detections": "as recorded in the bag"})


def node_parameters(options: Options) -> dict[str, object]:
    """ROS parameters of the detection node."""
    thresholds = {f"score_threshold.{name}": options.score_threshold for name in CLASSES}
    engine = {"variant": options.variant, "backend": options.backend, "threads": options.threads or 0}
    target = {"target_frame": options.target_frame} if options.target_frame else {}
    return {**engine, **thresholds, **target}


def load_detector(options: Options) -> Detector:
    """The detector that the options ask for."""
    return Detector.load(
        variant=options.variant,
        backend=options.backend,
        threads=options.threads,
        score_threshold=options.score_threshold,
    )


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


def _judgement(title: str, bag: ScanBag, run: Run, options: Options, facts: Mapping[str, str]) -> Judgement:
    settings = EvaluationSettings(min_points=options.min_points, max_range=options.max_range)
    metrics = evaluate_detections(run.frames, CLASSES, settings)
    intervals = {f"{name}_interval": half for name, half in metrics.intervals.items()}
    counts = {name.replace("_", " "): f"{value:g}" for name, value in run.figures.items() if "latency" not in name}
    report = Report(
        title=title,
        facts={"judged": _conditions(settings), **facts, **counts},
        tables=[
            parts.accuracy_table(metrics, settings),
            parts.working_table(metrics, settings),
            latency_table(run.figures),
        ],
        plots=list(parts.curve_plots(metrics)),
        pictures=_pictures(bag, run, metrics, settings),
        notes=[INTERVAL_NOTE],
    )
    return Judgement("detection", report, {**metrics.values, **intervals, **run.figures}, _shown(metrics))


def _shown(metrics: DetectionMetrics) -> list[str]:
    lines = []
    for name, value in metrics.values.items():
        if name.endswith(SHOWN):
            interval = f" +- {metrics.intervals[name]:.1f}" if name in metrics.intervals else ""
            lines.append(f"{name:32} {value:6.2f}{interval}")
    return lines


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
