# SPDX-License-Identifier: Apache-2.0
"""A map for later runs from scans at their poses: thinned points, and the places from where they were seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.registration.ply import write_ply
from perception_models.registration.preprocess import thin_out

Floats = npt.NDArray[np.float32]

CROWD = 2_000_000  # points after which what was collected is thinned again


class MapBuilder:
    """Collects scans every `step` m; keeps one point in each cube of `spacing` m."""

    def __init__(self, spacing: float, step: float) -> None:
        self._spacing, self._step = spacing, step
        self._parts: list[Floats] = []
        self._places: list[npt.NDArray[np.float64]] = []

    def add(self, points: Floats, pose: se3.Matrix) -> None:
        """Takes in points (N, 3) m in the map's frame, seen by a sensor at a pose (4, 4), unless it stood still."""
        place = pose[:3, 3].copy()
        if self._places and np.linalg.norm(place - self._places[-1]) < self._step:
            return
        self._places.append(place)
        self._parts.append(thin_out(points, self._spacing))
        if sum(map(len, self._parts)) > CROWD:
            self._parts = [self.points]

    @property
    def points(self) -> Floats:
        """The map (N, 3) so far."""
        return thin_out(np.concatenate([np.zeros((0, 3), np.float32), *self._parts]), self._spacing)

    @property
    def viewpoints(self) -> Floats:
        """Where its scans were taken (V, 3)."""
        return np.asarray(self._places, np.float32).reshape(-1, 3)

    def save(self, path: Path) -> int:
        """Writes a .ply; returns its number of points. Raises ValueError where there are none."""
        points = self.points
        if not len(points):
            raise ValueError("no scan was placed yet: there is no map to save")
        write_ply(path, points, self.viewpoints)
        return len(points)
