# SPDX-License-Identifier: Apache-2.0
"""One posed image as map building sees it: key points, and the surface behind them where depth tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix, RgbdFrame
from perception_models.relocalization.depth import depth_at, lift
from perception_models.relocalization.features import FeatureExtractor, Features, Floats
from perception_models.relocalization.lines import detect_lines
from perception_models.relocalization.segments import Segments, segments_of


@dataclass(frozen=True)
class View:
    """Key points of an image and where they are: depth (N,) metres along the optical axis, NaN where unknown;
    camera_matrix (3, 3); pose (4, 4), camera -> map, NaN where unknown; size (width, height) of the image; segments:
    its lines, where they were asked for."""

    features: Features
    depth: Floats
    camera_matrix: Matrix
    pose: Matrix
    size: tuple[int, int]
    segments: Segments | None = None

    @property
    def is_posed(self) -> bool:
        """Whether the pose is known."""
        return bool(np.isfinite(self.pose).all())

    @property
    def has_depth(self) -> bool:
        """Whether the depth of any key point is known."""
        return bool(np.isfinite(self.depth).any())

    @property
    def surface(self) -> Floats:
        """Points (N, 3) of the map, NaN where the depth is unknown."""
        return se3.apply(self.pose, lift(self.features.points, self.depth, self.camera_matrix))


def observe(frame: RgbdFrame, extractor: FeatureExtractor, lines: bool = False) -> View:
    """The view of a frame, with or without pose and depth, and its lines where wanted."""
    features = extractor.extract(frame.rgb)
    depth = (
        np.full(len(features), np.nan, np.float32) if frame.depth is None else depth_at(frame.depth, features.points)
    )
    pose = np.full((4, 4), np.nan) if frame.pose is None else frame.pose
    segments = segments_of(detect_lines(frame.rgb, features), frame.depth) if lines else None
    return View(features, depth, frame.camera_matrix, pose, frame.rgb.shape[1::-1], segments)


def finite_rows(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which rows (N,) of points (N, D) hold finite numbers only."""
    rows: NDArray[np.bool_] = np.isfinite(points).all(axis=-1)
    return rows
