# SPDX-License-Identifier: Apache-2.0
"""Accuracy of 3D detections: average precision, recall and false objects, by class, overlap and distance."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_models.classes import CLASSES
from perception_models.evaluation.average_precision import Curve, precision_recall
from perception_models.evaluation.matching import OVERLAPS, ClassMatches, FrameResult, Judgement


@dataclass(frozen=True)
class EvaluationSettings:
    """How detections are judged.

    A true object counts if it holds `min_points` LiDAR points and its centre is nearer than `max_range` metres. The
    distance `bands` (metres) are reported beside it. `overlaps` are the loose and the tight intersection over union
    that make a hit, in bird's-eye view and in 3D alike. The working point is the score where the recall at the loose
    overlap in bird's-eye view is `recall`. Intervals come from `resamples` draws of blocks of `block` scans.
    """

    min_points: int = 5
    max_range: float = 50.0
    bands: tuple[tuple[int, int], ...] = ((0, 20), (20, 40), (40, 60))
    overlaps: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {"vehicle": (0.5, 0.7), "pedestrian": (0.25, 0.5), "cyclist": (0.25, 0.5)}
    )
    recall: float = 0.95
    block: int = 15
    resamples: int = 200


@dataclass(frozen=True)
class Outcome:
    """What became of one scan at each class's score of the best F1: indices into its detections and true objects."""

    hits: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Objects missed and objects invented."""
        return len(self.missed) + len(self.false)


@dataclass(frozen=True)
class DetectionMetrics:
    """Figures, and what they come from.

    `values`: figures by name, percent where they are shares (names: docs/evaluation.md); one that has no object to
    stand on is absent. `intervals`: for some, half the width of the 95 % bootstrap interval. `curves`: precision over
    recall by name. `outcomes`: one for each scan.
    """

    values: dict[str, float]
    intervals: dict[str, float]
    curves: dict[str, Curve]
    outcomes: list[Outcome]


def evaluate_detections(
    frames: Sequence[FrameResult],
    names: Sequence[str] = CLASSES,
    settings: EvaluationSettings | None = None,
) -> DetectionMetrics:
    """Judge the detections of consecutive scans; `names` are the classes that labels index."""
    settings = settings or EvaluationSettings()
    metrics = DetectionMetrics({"frames": float(len(frames))}, {}, {}, [Outcome() for _ in frames])
    overlaps = {kind: [overlap(one.boxes, one.truth_boxes) for one in frames] for kind, overlap in OVERLAPS.items()}
    for label, name in enumerate(names):
        for kind, matrices in overlaps.items():
            for threshold in settings.overlaps[name]:
                matches = [
                    ClassMatches(frame, label, matrix, threshold, settings.min_points)
                    for frame, matrix in zip(frames, matrices, strict=True)
                ]
                judgements = [match.within(0, settings.max_range) for match in matches]
                curve, key = precision_recall(judgements), f"{name}_ap_{kind}_{threshold * 100:.0f}"
                _add_precision(metrics, key, curve, judgements, settings)
                _add_bands(metrics, key, matches, settings)
                if kind == "bev" and threshold == settings.overlaps[name][0]:
                    _add_working_point(metrics, name, curve, judgements, settings)
    return metrics


def _add_precision(
    metrics: DetectionMetrics, key: str, curve: Curve, judgements: Sequence[Judgement], settings: EvaluationSettings
) -> None:
    """Average precision within the range, its curve and, over enough scans, its interval."""
    if curve.objects:
        metrics.values[key] = 100 * curve.average_precision()
        metrics.curves[key] = curve
        if len(judgements) > settings.block:
            metrics.intervals[key] = _interval(judgements, settings)


def _add_bands(
    metrics: DetectionMetrics, key: str, matches: Sequence[ClassMatches], settings: EvaluationSettings
) -> None:
    """Average precision in each band of distance."""
    for near, far in settings.bands:
        banded = precision_recall([match.within(near, far) for match in matches])
        if banded.objects:
            metrics.values[f"{key}_{near}_{far}m"] = 100 * banded.average_precision()


def _interval(judgements: Sequence[Judgement], settings: EvaluationSettings) -> float:
    """Half the width of the 95 % interval of the average precision, in percent.

    Neighbouring scans show the same objects, so whole blocks of time are drawn, with replacement.
    """
    blocks = [judgements[start : start + settings.block] for start in range(0, len(judgements), settings.block)]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(blocks), size=(settings.resamples, len(blocks)))
    drawn = [precision_recall([one for index in draw for one in blocks[index]]).average_precision() for draw in draws]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(high - low) * 50


def _add_working_point(
    metrics: DetectionMetrics, name: str, curve: Curve, judgements: Sequence[Judgement], settings: EvaluationSettings
) -> None:
    """Figures at the score where the recall is the wanted one, or the highest reached; outcomes at the best F1."""
    metrics.values[f"{name}_objects"] = float(curve.objects)
    if not curve.objects:
        return
    metrics.values[f"{name}_highest_recall"] = 100 * float(curve.recall.max(initial=0))
    score = np.inf
    if len(curve.scores):
        point = curve.at_recall(settings.recall)
        # Where the wanted recall is out of reach the working point is no choice that anyone would make.
        score = curve.scores[curve.at_best_f1()]
        metrics.values[f"{name}_working_score"] = float(curve.scores[point])
        metrics.values[f"{name}_best_f1_score"] = float(score)
        metrics.values[f"{name}_working_recall"] = 100 * float(curve.recall[point])
        metrics.values[f"{name}_working_precision"] = 100 * float(curve.precision[point])
        metrics.values[f"{name}_false_per_frame"] = float(curve.false[point]) / len(judgements)
    for outcome, judgement in zip(metrics.outcomes, judgements, strict=True):
        _add_outcome(outcome, judgement, score)


def _add_outcome(outcome: Outcome, judgement: Judgement, score: float) -> None:
    taken = judgement.scores >= score
    found = judgement.found_by >= score
    outcome.hits.extend(judgement.detections[taken & judgement.hits].tolist())
    outcome.false.extend(judgement.detections[taken & ~judgement.hits].tolist())
    outcome.found.extend(judgement.objects[found].tolist())
    outcome.missed.extend(judgement.objects[~found].tolist())
