# SPDX-License-Identifier: Apache-2.0
"""What one key frame offers to the map: a point a voxel, in the world, and which pixel belongs to which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, RgbdFrame, unproject
from perception_models.segmentation.online_settings import OnlineSettings

Integers = NDArray[np.int64]
_BITS, _MIDDLE = 21, 1 << 20  # of a voxel's place on one axis


@dataclass(frozen=True)
class FrameCloud:
    """points (N, 3) float32 world, m; colors (N, 3) uint8; depth (N,) m, along the optical axis; rows (h, w) the point
    of each pixel of the thinned image, -1 for none."""

    points: Floats
    colors: NDArray[np.uint8]
    depth: Floats
    rows: Integers

    def __len__(self) -> int:
        return len(self.points)

    @staticmethod
    def of(frame: RgbdFrame, settings: OnlineSettings) -> FrameCloud:
        """The pixels within the range of depth, averaged voxel by voxel. Raises ValueError without depth or pose."""
        if frame.depth is None or frame.pose is None:
            raise ValueError("a key frame needs depth and pose")
        thin = slice(None, None, settings.stride), slice(None, None, settings.stride)
        depth = frame.depth[thin]
        seen = (depth >= settings.min_depth) & (depth <= settings.max_depth)
        points = se3.apply(frame.pose, unproject(frame.depth, frame.camera_matrix)[thin][seen])
        rows = np.full(depth.shape, -1, np.int64)
        owners, count = _voxels(points, settings.voxel)
        rows[seen] = owners
        means = _means(np.column_stack([points, frame.rgb[thin][seen], depth[seen]]), owners, count)
        return FrameCloud(means[:, :3], np.rint(means[:, 3:6]).astype(np.uint8), means[:, 6], rows)


def _voxels(points: Floats, size: float) -> tuple[Integers, int]:
    """The voxel (N,) of each point (N, 3), numbered without gaps, and how many there are."""
    cells = np.floor(points / size).astype(np.int64) + _MIDDLE
    keys = (cells[:, 0] << 2 * _BITS) | (cells[:, 1] << _BITS) | cells[:, 2]
    unique, owners = np.unique(keys, return_inverse=True)
    return owners, len(unique)


def _means(values: NDArray[np.floating], owners: Integers, count: int) -> Floats:
    """Mean (count, C) of the rows of values (N, C) by owner (N,)."""
    sums = np.stack([np.bincount(owners, column, count) for column in values.T], axis=1)
    return (sums / np.maximum(np.bincount(owners, minlength=count), 1)[:, None]).astype(np.float32)
