# SPDX-License-Identifier: Apache-2.0
"""Class-agnostic instance segmentation of clouds by ScanNet's protocol, and how well super-points follow instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.average_precision import Curve, precision_recall
from perception_models.evaluation.matching import Judgement

Labels = NDArray[np.integer]
Overlap = NDArray[np.float64]

STRICT = tuple(np.arange(0.5, 0.95, 0.05).round(2).tolist())  # ScanNet's nine, whose mean is AP
THRESHOLDS = (*STRICT, 0.25)
MIN_POINTS = 100


@dataclass(frozen=True)
class SceneLabels:
    """One cloud: found instance (N,) of each point, -1 for none, with scores (K,); true instance (N,), -1 where the
    truth does not speak."""

    found: Labels
    scores: NDArray[np.floating]
    truth: Labels


def instance_figures(scenes: Sequence[SceneLabels], min_points: int = MIN_POINTS) -> dict[str, float]:
    """ap, ap_50 and ap_25 over all scenes, 0 to 100; `min_points` below which an instance, true or found, is not
    judged. NaN without a true instance."""
    overlaps = [Overlaps.of(scene, min_points) for scene in scenes]
    curves = {at: precision_recall([overlap.judged(at) for overlap in overlaps]) for at in THRESHOLDS}
    areas = {at: 100 * area(curve) for at, curve in curves.items()}
    return {"ap": float(np.mean([areas[at] for at in STRICT])), "ap_50": areas[0.5], "ap_25": areas[0.25]}


def area(curve: Curve) -> float:
    """Area under precision over recall, straight from point to point and from the first to (0, 1); NaN without truth.

    ScanNet's benchmark integrates so, without the usual envelope of best precisions.
    """
    if not curve.objects:
        return float("nan")
    recall, precision = np.append(0, curve.recall), np.append(1, curve.precision)
    return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())


@dataclass(frozen=True)
class Overlaps:
    """Of one scene: iou (K, M) of found instances by falling score with true ones; unjudged (K,), the share of a found
    instance where the truth does not speak or speaks of too small an instance; the scores (K,)."""

    iou: Overlap
    unjudged: Overlap
    scores: NDArray[np.floating]

    @staticmethod
    def of(scene: SceneLabels, min_points: int) -> Overlaps:
        """Count points. Raises ValueError where found and true labels are of different clouds."""
        if scene.found.shape != scene.truth.shape:
            raise ValueError(f"{scene.found.shape} labels cannot be judged by {scene.truth.shape} true ones")
        true_ids, truth = np.unique(np.append(scene.truth, -1), return_inverse=True)
        counts = np.zeros((len(scene.scores) + 1, len(true_ids)))
        np.add.at(counts, (scene.found, truth[:-1]), 1)  # the last row is of label -1
        size, true_size = counts[:-1].sum(axis=1), counts.sum(axis=0)
        judged = (true_ids >= 0) & (true_size >= min_points)
        rows = np.argsort(-scene.scores, kind="stable")
        rows = rows[size[rows] >= max(min_points, 1)]
        common = counts[rows][:, judged]
        iou = common / (size[rows, None] + true_size[judged] - common)
        return Overlaps(iou, counts[rows][:, ~judged].sum(axis=1) / size[rows], scene.scores[rows])

    def judged(self, threshold: float) -> Judgement:
        """What counts at an overlap of more than `threshold`.

        A true instance takes the best scored of those that overlap it; others that do are false. What overlaps none is
        false too, unless more than `threshold` of it lies where the truth does not speak.
        """
        hits, false = np.zeros(len(self.iou), bool), self.unjudged <= threshold
        found_by = np.full(self.iou.shape[1], -np.inf)
        for column, overlaps in enumerate((self.iou > threshold).T):
            takers = np.flatnonzero(overlaps & ~hits)
            if len(takers):
                hits[takers[0]], found_by[column] = True, self.scores[takers[0]]
                false[takers[1:]] = True
        kept = np.flatnonzero(hits | false)
        return Judgement(kept, self.scores[kept], hits[kept], np.arange(len(found_by)), found_by)


def superpoint_figures(superpoints: Labels, truth: Labels) -> dict[str, float]:
    """How an over-segmentation (N,) fits true instances (N,), -1 where the truth does not speak; points in percent.

    undersegmentation: points of super-points that mostly belong to another instance; oversegmentation: super-points
    for each instance.
    """
    known = truth >= 0
    if not known.any():
        return {"undersegmentation": float("nan"), "oversegmentation": float("nan")}
    _, part = np.unique(superpoints, return_inverse=True)
    names, true = np.unique(truth, return_inverse=True)
    counts = np.zeros((part.max() + 1, len(names)))
    np.add.at(counts, (part, true), 1)
    owner = counts.argmax(axis=1)
    wrong = (owner[part] != true)[known].mean()
    instances = len(names) - bool((names < 0).any())
    return {
        "undersegmentation": float(100 * wrong),
        "oversegmentation": float((names[owner] >= 0).sum() / instances),
    }
