# SPDX-License-Identifier: Apache-2.0
"""Depth at pixels, and the points behind them."""

from __future__ import annotations

import numpy as np

from perception_models.geometry.cameras import Matrix
from perception_models.relocalization.features import Floats


def lift(points: Floats, depth: Floats, camera_matrix: Matrix) -> Floats:
    """Points (..., 3) in the camera's frame behind pixels (..., 2) at depths (...,)."""
    focal, centre = camera_matrix[[0, 1], [0, 1]].astype(np.float32), camera_matrix[:2, 2].astype(np.float32)
    rays: Floats = np.concatenate([(points - centre) / focal, np.ones_like(points[..., :1])], axis=-1)
    return rays * depth[..., None]


def depth_at(depth: Floats, points: Floats) -> Floats:
    """Depth (...,) at pixels (..., 2): the nearest surface of the 3 x 3 neighbourhood, NaN where there is none.

    Corners belong to the surface in front of what they stand out from, so at an edge the nearer depth is theirs.
    """
    height, width = depth.shape
    x, y = np.moveaxis(np.rint(points).astype(np.int64), -1, 0)
    padded = np.pad(np.where(depth > 0, depth, np.nan), 1, constant_values=np.nan)
    x, y = np.clip(x, 0, width - 1) + 1, np.clip(y, 0, height - 1) + 1
    around = np.stack([padded[y + row, x + column] for row in (-1, 0, 1) for column in (-1, 0, 1)])
    return foreground(around)


def foreground(depths: Floats) -> Floats:
    """Median (...,) of those of depths (K, ...) that are within 3 % of the smallest; NaN where all are."""
    nearest = np.fmin.reduce(depths, axis=0)
    with np.errstate(invalid="ignore"):
        front = np.where(depths <= nearest * np.float32(1.03), depths, np.nan)
    ordered = np.sort(front, axis=0)  # NaN goes last
    middle = np.maximum(np.isfinite(front).sum(0) - 1, 0) // 2
    chosen: Floats = np.take_along_axis(ordered, middle[None], axis=0)[0]
    return chosen
