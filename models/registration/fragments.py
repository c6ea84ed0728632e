# SPDX-License-Identifier: Apache-2.0
"""Fragments: a few seconds of a depth camera as one cloud, so that noise and holes of single frames average out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame, frame_points
from perception_models.registration.preprocess import thin_out

Floats = npt.NDArray[np.float32]


def fuse(frames: Iterable[RgbdFrame], voxel: float, min_views: int = 3) -> Floats:
    """Fuse frames with depth and pose to points (N, 3) in metres, in the first frame's camera frame: the mean of each
    voxel (m) that at least `min_views` frames saw, or all of them where there are fewer.

    Raises ValueError where a frame has no depth or no pose, or where there is no frame.
    """
    views, to_first = [], None
    for frame in frames:
        points = frame_points(frame)
        if to_first is None and frame.pose is not None:
            to_first = se3.inverse(frame.pose)
        if to_first is not None:
            views.append(thin_out(se3.apply(to_first, points).astype(np.float32), voxel / 2))
    if not views:
        raise ValueError("no frame to fuse; a fragment needs at least one with depth and pose")
    return _mean_of_seen(views, voxel, min(min_views, len(views)))


def _mean_of_seen(views: list[Floats], voxel: float, min_views: int) -> Floats:
    """Mean (N, 3) of the points in each voxel that enough of the views saw."""
    points = np.concatenate(views)
    cells = np.floor(points / voxel).astype(np.int64)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    view = np.repeat(np.arange(len(views)), [len(points) for points in views])
    seen_by = np.bincount(np.unique(cell * len(views) + view) // len(views))
    count = np.bincount(cell)
    mean = np.stack([np.bincount(cell, axis) for axis in points.T], axis=1) / count[:, None]
    return np.asarray(mean[seen_by >= min_views], np.float32)
