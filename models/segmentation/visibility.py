# SPDX-License-Identifier: Apache-2.0
"""Which points of a cloud a view sees, by projection and its depth image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, RgbdFrame, project
from perception_models.segmentation.settings import SegmentationSettings

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Projection:
    """Rows (M,) of the points that a view sees, their pixels (M, 2) x y and depths (M,) m along the optical axis.
    `passed`: how many points the view looks through, which it could not if it were posed right and nothing moved."""

    rows: Indices
    pixels: Floats
    depths: Floats
    passed: int = 0


def visible(points: Floats, frame: RgbdFrame, settings: SegmentationSettings) -> Projection:
    """The points (N, 3), world, that a frame sees. Raises ValueError where it has no depth or no pose."""
    if frame.depth is None or frame.pose is None:
        raise ValueError("only a frame with depth and pose tells which points it sees")
    local = se3.apply(se3.inverse(frame.pose), points)
    pixels = project(local, frame.camera_matrix)
    height, width = frame.depth.shape
    inside = (pixels > -0.5).all(axis=1) & (pixels < np.array([width - 0.5, height - 0.5])).all(axis=1)
    rows = np.flatnonzero(inside)
    column, row = np.rint(pixels[rows]).astype(np.int64).T
    measured, expected = frame.depth[row, column], local[rows, 2]
    margin = settings.depth_margin + settings.depth_share * expected
    agrees = (measured > 0) & (np.abs(measured - expected) < margin)
    passed = int((measured > expected + 2 * margin).sum())
    seen = rows[agrees]
    return Projection(seen, pixels[seen].astype(np.float32), expected[agrees].astype(np.float32), passed)


def contradiction(projection: Projection, settings: SegmentationSettings) -> str:
    """What speaks against a view's pose; empty where nothing does."""
    seen = len(projection.rows)
    if projection.passed > settings.stale * (seen + projection.passed) and projection.passed > settings.min_pixels:
        return (
            f"its depth contradicts the cloud: it looks through {projection.passed} points and confirms {seen}; "
            "check its pose and stamp"
        )
    return ""


def look_back(
    points: Floats, frames: Sequence[RgbdFrame], settings: SegmentationSettings
) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """From where each point (N, 3) was seen (N, 3), and its colour (N, 3): of the view that was nearest to it.

    A point that none saw has the nearest view's place, and is grey. Raises ValueError as `visible`, or without frames.
    """
    if not frames:
        raise ValueError("without frames nobody saw the points")
    places = np.array([frame.pose[:3, 3] for frame in frames if frame.pose is not None], np.float32)
    viewpoints = places[cKDTree(places).query(points)[1]]
    colors, nearest = np.full((len(points), 3), 128, np.uint8), np.full(len(points), np.inf, np.float32)
    for frame, place in zip(frames, places, strict=True):
        seen = visible(points, frame, settings)
        closer = seen.depths < nearest[seen.rows]
        rows, (column, row) = seen.rows[closer], np.rint(seen.pixels[closer]).astype(np.int64).T
        viewpoints[rows], colors[rows], nearest[rows] = place, frame.rgb[row, column], seen.depths[closer]
    return viewpoints, colors
