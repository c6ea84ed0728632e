# SPDX-License-Identifier: Apache-2.0
"""One posed image as map building sees it: key points, and the surface behind them where depth tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix, RgbdFrame
from perception_models.relocalization.features import FeatureExtractor, Features, Floats


@dataclass(frozen=True)
class View:
    """Key points of an image and where they are: depth (N,) metres along the optical axis, NaN where unknown;
    camera_matrix (3, 3); pose (4, 4), camera -> map; size (width, height) of the image."""

    features: Features
    depth: Floats
    camera_matrix: Matrix
    pose: Matrix
    size: tuple[int, int]

    @property
    def surface(self) -> Floats:
        """Points (N, 3) of the map, NaN where the depth is unknown."""
        return se3.apply(self.pose, lift(self.features.points, self.depth, self.camera_matrix))


def observe(frame: RgbdFrame, extractor: FeatureExtractor) -> View:
    """The view of a frame with a pose, with or without depth. Raises ValueError where the pose is missing."""
    if frame.pose is None:
        raise ValueError("a map is built from frames with poses; reconstruct poses first (triangulation.py)")
    features = extractor.extract(frame.rgb)
    depth = (
        np.full(len(features), np.nan, np.float32) if frame.depth is None else depth_at(frame.depth, features.points)
    )
    return View(features, depth, frame.camera_matrix, frame.pose, frame.rgb.shape[1::-1])


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


def finite_rows(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which rows (N,) of points (N, D) hold finite numbers only."""
    rows: NDArray[np.bool_] = np.isfinite(points).all(axis=-1)
    return rows
