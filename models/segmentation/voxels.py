# SPDX-License-Identifier: Apache-2.0
"""The voxels of the map, as parallel columns."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame
from perception_models.segmentation.online_settings import OnlineSettings

Integers = NDArray[np.int64]


@dataclass
class Voxels:
    """points (N, 3) float32 m and unit normals (N, 3) in the map, towards who saw them; colors (N, 3) uint8;
    superpoints (N,) int32 rows of the table of super-points; seen (N,) float64 s, when last; views (N,) int64 number
    of the key frame in which; misses (N,) uint8 key frames in a row that looked through."""

    points: Floats
    normals: Floats
    colors: NDArray[np.uint8]
    superpoints: NDArray[np.int32]
    seen: NDArray[np.float64]
    views: Integers
    misses: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)

    @staticmethod
    def none() -> Voxels:
        """No voxel."""
        empty = np.zeros((0, 3), np.float32)
        return Voxels.seen_now(empty, empty, np.zeros((0, 3), np.uint8), np.zeros(0, np.int32), 0.0, 0)

    @staticmethod
    def seen_now(
        points: Floats,
        normals: Floats,
        colors: NDArray[np.uint8],
        superpoints: NDArray[np.int32],
        stamp: float,
        view: int,
    ) -> Voxels:
        """Voxels that one key frame gives."""
        count = len(points)
        stamps, views = np.full(count, stamp), np.full(count, view, np.int64)
        return Voxels(points, normals, colors, superpoints, stamps, views, np.zeros(count, np.uint8))

    def joined(self, others: Voxels) -> Voxels:
        """These, then the others."""
        return Voxels(*(np.concatenate([getattr(self, f.name), getattr(others, f.name)]) for f in fields(self)))

    def where(self, kept: NDArray[np.bool_] | Integers) -> Voxels:
        """Some of them."""
        return Voxels(*(getattr(self, f.name)[kept] for f in fields(self)))

    def around(self, points: Floats, margin: float) -> Integers:
        """Rows (M,) of those in the upright box about some points (N, 3), and up to `margin` beyond."""
        if not len(points):
            return np.zeros(0, np.int64)
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        return np.flatnonzero(((self.points >= low) & (self.points <= high)).all(axis=1))

    def in_view(self, frame: RgbdFrame, settings: OnlineSettings) -> tuple[Integers, Floats]:
        """Rows (M,) of those inside the camera's image and range, hidden or not, and their places (M, 3) x y pixels,
        depth."""
        if frame.pose is None:
            raise ValueError("a frame without pose views nothing")
        local = se3.apply(se3.inverse(frame.pose), self.points)
        rows = np.flatnonzero((local[:, 2] > settings.min_depth) & (local[:, 2] < settings.max_depth))
        local = local[rows]
        pixels = _pixels(local, frame.camera_matrix)
        height, width = frame.rgb.shape[:2]
        inside = (pixels > -0.5).all(axis=1) & (pixels < np.array([width - 0.5, height - 0.5])).all(axis=1)
        return rows[inside], np.column_stack([pixels[inside], local[inside, 2]]).astype(np.float32)


def _pixels(local: Floats, matrix: Matrix) -> Floats:
    scaled = local[:, :2] / local[:, 2:] * matrix[[0, 1], [0, 1]] + matrix[:2, 2]
    return np.asarray(scaled, np.float32)
