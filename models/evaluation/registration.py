# SPDX-License-Identifier: Apache-2.0
"""How well clouds are aligned from nothing, as 3DMatch (Zeng et al., CVPR 2017) and 3DLoMatch (Predator, CVPR 2021)
count: a pair is registered where the points that both clouds hold end up within 0.2 m of their true places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from perception_models.geometry import se3

Matrix = NDArray[np.float64]
Points = NDArray[np.floating]

REGISTERED = 0.2  # m
LOW = (0.1, 0.3)  # overlap; what shares more is not low
CLASSES = ("high", "low")


@dataclass(frozen=True)
class Outcome:
    """What a method said of a pair: its error (m), whether it called the result valid, and the share of its
    correspondences that are right (NaN where it shows none)."""

    overlap: float
    error: float
    valid: bool
    inlier_ratio: float = float("nan")

    @property
    def registered(self) -> bool:
        """Whether the pair counts as registered."""
        return self.error < REGISTERED


def overlap(source: Points, target: Points, transform: Matrix, reach: float) -> float:
    """The smaller share of source (N, 3) and target (M, 3) with a point of the other within `reach` (m), at the true
    transform (4, 4) source -> target."""
    moved = se3.apply(transform, source)
    forth, _ = cKDTree(target).query(moved, distance_upper_bound=reach)
    back, _ = cKDTree(moved).query(target, distance_upper_bound=reach)
    return float(min(np.isfinite(forth).mean(), np.isfinite(back).mean()))


def alignment_error(estimate: Matrix, truth: Matrix, source: Points, target: Points, reach: float) -> float:
    """Root mean square of the distances (m) between the places where two transforms (4, 4) put the source's points that
    truly lie within `reach` (m) of the target; of all its points where none do."""
    true_places = se3.apply(truth, source)
    distance, _ = cKDTree(target).query(true_places, distance_upper_bound=reach)
    shared = np.isfinite(distance) if np.isfinite(distance).any() else np.ones(len(source), bool)
    moved = se3.apply(estimate, source[shared]) - true_places[shared]
    return float(np.sqrt(np.mean(np.sum(moved**2, axis=1))))


def inlier_ratio(source: Points, target: Points, truth: Matrix, reach: float) -> float:
    """Share of corresponding points (K, 3) that the true transform brings within `reach` (m); NaN where there are
    none."""
    if not len(source):
        return float("nan")
    return float(np.mean(np.linalg.norm(se3.apply(truth, source) - target, axis=1) < reach))


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Figures by class of overlap ("high", "low"): pairs, recall, inlier_ratio; and over both the pairs called valid
    that are wrong, and those registered that were not called valid."""
    figures: dict[str, float] = {}
    for name in CLASSES:
        chosen = [one for one in outcomes if (LOW[0] <= one.overlap < LOW[1]) == (name == "low")]
        figures[f"{name}_pairs"] = float(len(chosen))
        if chosen:
            figures[f"{name}_recall"] = float(np.mean([one.registered for one in chosen]))
            figures[f"{name}_inlier_ratio"] = float(np.mean([one.inlier_ratio for one in chosen]))
    figures["valid_but_wrong"] = float(sum(one.valid and not one.registered for one in outcomes))
    figures["right_but_not_valid"] = float(sum(one.registered and not one.valid for one in outcomes))
    return figures
