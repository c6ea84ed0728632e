# SPDX-License-Identifier: Apache-2.0
"""The scale of the world, told by a depth sensor or by odometry: robust, then smoothed."""

from __future__ import annotations

import numpy as np

from perception_models.geometry.cameras import Floats, Matrix
from perception_models.reconstruction.online_settings import OnlineSettings
from perception_models.reconstruction.view import Bools


def depth_ratio(depth: Floats, measured: Floats, mask: Bools) -> tuple[float, int]:
    """Median of measured over found depth, both (H, W), where both are above 0 within a mask, and of how many pixels;
    NaN where of none."""
    both = mask & (depth > 0) & (measured > 0)
    count = int(both.sum())
    return (float(np.median(measured[both] / depth[both])), count) if count else (float("nan"), 0)


class ScaleFilter:
    """By how much the world must grow to be as large as a sensor says: the first time by all of it, then each time by a
    share of the logarithm, so that twice and half as long weigh the same."""

    def __init__(self, settings: OnlineSettings) -> None:
        self._settings = settings
        self._world: int | None = None
        self.begin(0)

    def begin(self, world: int) -> None:
        """Forget what was told of another world."""
        if world != self._world:
            self._world, self._known = world, False
            self._from: tuple[Matrix, Matrix] | None = None

    def depth(self, found: Floats, measured: Floats, mask: Bools) -> float:
        """The factor that an image's depth (H, W) in the world and as measured tells, m, 0 where it is not known; 1
        where too little is."""
        ratio, pixels = depth_ratio(found, measured, mask)
        return self._factor(ratio) if pixels >= self._settings.scale_pixels else 1.0

    def motion(self, pose: Matrix, odometry: Matrix) -> float:
        """The factor that the way of a camera tells, by its pose (4, 4) in the world, and in a frame of odometry's own.
        The way counts from where it last told something, so that noise does not pile up while the camera stands."""
        if self._from is None:
            self._from = pose, odometry
        found, true = (_distance(start, end) for start, end in zip(self._from, (pose, odometry), strict=True))
        if true < self._settings.scale_step or found <= 0:
            return 1.0
        self._from = pose, odometry
        return self._factor(true / found)

    def _factor(self, ratio: float) -> float:
        share = 1 - self._settings.scale_inertia if self._known else 1.0
        self._known = True
        return float(ratio**share)


def _distance(start: Matrix, end: Matrix) -> float:
    return float(np.linalg.norm(end[:3, 3] - start[:3, 3]))
