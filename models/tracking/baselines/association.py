# SPDX-License-Identifier: Apache-2.0
"""Tracking by association: a Kalman filter takes the candidate that is nearest to where it expects its target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.geometry.boxes import wrap_angle
from perception_models.tracking.kalman import PointFilter
from perception_models.tracking.state import TrackState

Floats = npt.NDArray[np.floating]
Boxes = npt.NDArray[np.float64]

GATE = 9.21  # squared Mahalanobis distance that 99 % of true matches stay below (two degrees of freedom)
PATIENCE = 0.35  # s without a match until the target is called lost
MOVING = 2.0  # m/s from which the velocity tells the heading


class Association:
    """Follows one target; `find(points, box)` gives the boxes (K, 7) that may be it, near the predicted box.

    The size stays as it was given. A heading is that of the match, or with `heading_from_motion` that of the velocity.
    """

    def __init__(self, find: Callable[[Floats, Boxes], Boxes], heading_from_motion: bool = False) -> None:
        self._find, self._from_motion = find, heading_from_motion

    def start(self, points: Floats, box: Floats) -> None:
        """Follow what stands in a box (7,)."""
        self._filter = PointFilter(box[:3])
        self._size, self._yaw, self._missed = np.asarray(box[3:6], float), float(box[6]), 0.0

    def track(self, points: Floats, ego_motion: se3.Matrix | None = None, seconds: float = 0.1) -> TrackState:
        """Where the target is in the next scan (N, 4)."""
        self._filter.predict(seconds)
        if ego_motion is not None:
            self._move(se3.inverse(ego_motion))
        score = self._associate(self._find(points, self._box))
        self._missed = 0.0 if score else self._missed + seconds
        is_lost = self._missed > PATIENCE
        return TrackState(self._box.astype(np.float32), score, is_lost, "no candidate is near" if is_lost else "")

    @property
    def _box(self) -> Boxes:
        return np.array([*self._filter.mean[:3], *self._size, self._yaw])

    def _move(self, transform: se3.Matrix) -> None:
        self._filter.move(transform)
        self._yaw += float(np.arctan2(transform[1, 0], transform[0, 0]))

    def _associate(self, candidates: Boxes) -> float:
        """Take in the nearest candidate; how well it fits, 0 for none."""
        surprises = self._filter.surprise(candidates[:, :3])
        if not len(candidates) or surprises.min() > GATE:
            return 0.0
        best = int(np.argmin(surprises))
        self._filter.correct(candidates[best, :3])
        self._turn(float(candidates[best, 6]))
        return float(np.exp(-surprises[best] / 2))

    def _turn(self, heading: float) -> None:
        """Take a heading, or its opposite where that is nearer to the last one: nothing turns round in one scan."""
        velocity = self._filter.mean[3:5]
        if self._from_motion:
            if np.hypot(*velocity) < MOVING:
                return
            heading = float(np.arctan2(velocity[1], velocity[0]))
        turn = float(wrap_angle(np.array(heading - self._yaw)))
        self._yaw += turn if abs(turn) <= np.pi / 2 else turn - np.sign(turn) * np.pi
