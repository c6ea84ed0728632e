# SPDX-License-Identifier: Apache-2.0
"""Poses and depths for views that lack them: a map may be built from images alone, with or without their poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perception_models.relocalization import colmap
from perception_models.relocalization.line_triangulation import triangulate_segments
from perception_models.relocalization.pairs import candidate_pairs, matched_pairs
from perception_models.relocalization.views import View

USUAL_DEPTH = 2.0  # of a key point, where nothing tells lengths: units are then about metres of a room
ENOUGH_DEPTHS = 100  # key points with measured depth that tell how long a metre is


def completed(views: Sequence[View]) -> tuple[list[View], bool]:
    """Views of one scene with poses and depths, and whether their unit is the metre.

    Where some poses are known, views without are left out; else they are reconstructed in the first camera's frame, in
    metres if there is depth. Where most views lack depth, that of their key points is triangulated; else those
    that lack it are left out. Raises MissingColmap, and ValueError where the images make no scene.
    """
    posed = [view for view in views if view.is_posed]
    if not posed and views:
        return _reconstructed(views)
    deep = [view for view in posed if view.has_depth]
    if 2 * len(deep) >= len(posed):
        return deep, True
    return _with_lines(colmap.triangulate(posed, matched_pairs(posed, candidate_pairs(posed)))), True


def _reconstructed(views: Sequence[View]) -> tuple[list[View], bool]:
    found = colmap.reconstruct(views, matched_pairs(views, candidate_pairs(views)))
    depth, measured = (np.concatenate([view.depth for view in some]) for some in (found, views))
    both = np.isfinite(depth) & np.isfinite(measured)
    is_metric = bool(both.sum() >= ENOUGH_DEPTHS)
    scale = float(np.median(measured[both] / depth[both]) if is_metric else USUAL_DEPTH / np.nanmedian(depth))
    pairs = [(view, before) for view, before in zip(found, views, strict=True) if view.is_posed]
    return _with_lines([_rescaled(view, before, scale, pairs[0][0]) for view, before in pairs]), is_metric


def _with_lines(views: list[View]) -> list[View]:
    """The views with depth of their line segments, where they have any and none came from a depth image."""
    if not views or any(view.segments is None or np.isfinite(view.segments.depth).any() for view in views):
        return views
    return triangulate_segments(views, candidate_pairs(views))


def _rescaled(view: View, before: View, scale: float, first: View) -> View:
    """The view in the frame of the first, all lengths times `scale`; depths that only `before` knew are kept."""
    pose = np.linalg.inv(first.pose) @ view.pose
    pose[:3, 3] *= scale
    depth = view.depth * np.float32(scale)
    return replace(view, pose=pose, depth=np.where(np.isfinite(depth), depth, before.depth))
