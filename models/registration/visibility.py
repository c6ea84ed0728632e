# SPDX-License-Identifier: Apache-2.0
"""What a sensor saw through: a surface cannot stand where the line of sight to a farther one was free."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

CELL = np.radians(2.5)  # a few points of a thinned cloud fall into each direction, at a room's or a street's distances
SHAPE = (int(np.ceil(2 * np.pi / CELL)) + 1, int(np.ceil(np.pi / CELL)) + 1)  # azimuths, elevations


class RangeImage:
    """The nearest range in each direction around the viewpoint (3,) of a cloud of points (N, 3) m."""

    def __init__(self, points: Floats, viewpoint: npt.ArrayLike) -> None:
        self.viewpoint = np.asarray(viewpoint, np.float32)
        nearest = np.full(SHAPE[0] * SHAPE[1], np.inf, np.float32)
        cells, ranges = self._polar(points)
        np.minimum.at(nearest, cells, ranges)
        self._ranges = np.where(np.isfinite(nearest), nearest, -np.inf)

    def in_front(self, points: Floats, margin: float) -> npt.NDArray[np.bool_]:
        """Which points (..., 3) lie nearer, by more than a margin (m), than all that was seen in their direction; none
        where nothing was seen."""
        cells, ranges = self._polar(points)
        return np.asarray(ranges < self._ranges[cells] - margin)

    def _polar(self, points: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
        """Cells and ranges (...) of points (..., 3)."""
        sight = points - self.viewpoint
        ranges = np.sqrt(np.einsum("...i,...i->...", sight, sight))
        azimuth = np.arctan2(sight[..., 1], sight[..., 0]) + np.pi
        elevation = np.arcsin(np.clip(sight[..., 2] / np.maximum(ranges, 1e-6), -1, 1)) + np.pi / 2
        cells = (azimuth / CELL).astype(np.int64) * SHAPE[1] + (elevation / CELL).astype(np.int64)
        return cells, ranges
