# SPDX-License-Identifier: Apache-2.0
"""What one key frame offers to the map: a point a voxel, in the world, and which pixel belongs to which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, RgbdFrame, unproject
from perception_models.segmentation.online_settings import OnlineSettings
from perception_models.segmentation.thinning import Thinned

Integers = NDArray[np.int64]


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
        thinned = Thinned.of(points, settings.voxel)
        rows[seen] = thinned.rows
        colors = np.rint(thinned.mean(frame.rgb[thin][seen])).astype(np.uint8)
        return FrameCloud(thinned.points, colors, thinned.mean(depth[seen, None])[:, 0], rows)
