# SPDX-License-Identifier: Apache-2.0
"""Moving points onto others: rotation, translation, and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3


@dataclass(frozen=True)
class Similarity:
    """A point x goes to pose @ (scale * x); pose (4, 4)."""

    pose: se3.Matrix
    scale: float = 1.0

    def apply(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Points (..., 3), of the same floating type."""
        return se3.apply(self.pose, points * np.asarray(self.scale, points.dtype))


def fit(moved: NDArray[np.floating], fixed: NDArray[np.floating], scaled: bool) -> Similarity:
    """What brings points (N, 3) nearest to others (N, 3) in the sense of least squares (Umeyama, TPAMI 1991); without
    `scaled` the scale is 1, as it is for points that all lie in one place."""
    centre, goal = moved.mean(axis=0, dtype=np.float64), fixed.mean(axis=0, dtype=np.float64)
    arms, others = moved - centre, fixed - goal
    rotation = se3.nearest_rotation(others.T @ arms)
    spread = float((arms**2).sum())
    scale = float((others * (arms @ rotation.T)).sum()) / spread if scaled and spread > 0 else 1.0
    return Similarity(se3.make(rotation, goal - scale * rotation @ centre), scale)
