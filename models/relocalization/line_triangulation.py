# SPDX-License-Identifier: Apache-2.0
"""Depth of line segments from two views: each end's ray meets the plane that the other view sees the line in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix
from perception_models.relocalization.assignment import Indices
from perception_models.relocalization.depth import lift
from perception_models.relocalization.features import Floats
from perception_models.relocalization.matching import mutual_matches
from perception_models.relocalization.pairs import Pair
from perception_models.relocalization.segments import Segments, expected_segments
from perception_models.relocalization.views import View

MIN_SIMILARITY = 0.8  # cosine of the segments' descriptors
MIN_ANGLE = np.radians(2.0)  # between the planes, below which depth is mostly noise
AGREEMENT = 0.05  # share of the depth by which two other views may differ
MIN_OTHERS = 2  # views that must agree: two planes always meet somewhere


def triangulate_segments(views: Sequence[View], pairs: Sequence[Pair]) -> list[View]:
    """The posed views with depth at the ends of those segments that other views saw too."""
    guesses: list[list[Floats]] = [[] for _ in views]
    for first, second in pairs:
        for one, other in ((first, second), (second, first)):
            guesses[one].append(_depths(views[one], views[other]))
    return [_with_depth(view, found) for view, found in zip(views, guesses, strict=True)]


def _depths(view: View, other: View) -> Floats:
    """Depth (L, 2) at the ends of the view's segments as the other view tells it, NaN where it does not."""
    ours, theirs = _segments(view), _segments(other)
    depth = np.full((len(ours), 2), np.nan, np.float32)
    if not len(ours) or not len(theirs):
        return depth
    rows, columns = mutual_matches(ours.descriptors, theirs.descriptors, MIN_SIMILARITY)
    meeting = _meeting(view, ours.ends[rows], other, theirs.ends[columns])
    places = se3.apply(se3.inverse(other.pose) @ view.pose, lift(ours.ends[rows], meeting, view.camera_matrix))
    seen = _is_seen(theirs.ends[columns], places, other.camera_matrix)
    depth[rows[seen]] = meeting[seen]
    return depth


def _meeting(view: View, ends: Floats, other: View, matched: Floats) -> Floats:
    """Depth (M, 2) where rays through ends (M, 2, 2) of a view meet planes through `matched` (M, 2, 2) of the other."""
    rays, normals = _rays(view, ends), _normals(_rays(other, matched))
    angle = np.arccos(np.clip(np.abs((_normals(rays) * normals).sum(-1)), 0, 1))
    gap = other.pose[:3, 3] - view.pose[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (normals @ gap)[:, None] / np.einsum("mec,mc->me", rays, normals)
    usable = (depth > 0).all(1) & (angle > MIN_ANGLE)
    return np.where(usable[:, None], depth, np.nan).astype(np.float32)


def _rays(view: View, ends: Floats) -> Matrix:
    """Directions (M, 2, 3) in the map, whose length is that of one metre of depth."""
    seen = lift(ends, np.ones(ends.shape[:-1], np.float32), view.camera_matrix)
    return np.asarray(seen @ view.pose[:3, :3].T, np.float64)


def _normals(rays: Matrix) -> Matrix:
    normals = np.cross(rays[:, 0], rays[:, 1])
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def _is_seen(ends: Floats, places: Floats, camera_matrix: Matrix) -> Indices:
    """Which segments (M, 2, 3) in the camera's frame overlap those (M, 2, 2) of its image that they were matched to."""
    known = np.flatnonzero(np.isfinite(places).all((1, 2)))
    found = [expected_segments(ends[[row]], places[[row]], camera_matrix, radius=2.0)[0].size > 0 for row in known]
    seen: Indices = known[np.array(found, bool)]
    return seen


def _with_depth(view: View, guesses: Sequence[Floats]) -> View:
    """The view with the median of the guesses (L, 2) where enough of them agree."""
    segments = _segments(view)
    if not guesses or not len(segments):
        return view
    stack = np.stack(guesses)
    known = np.isfinite(stack).all(-1).sum(0) >= MIN_OTHERS
    depth = np.full_like(segments.depth, np.nan)
    depth[known] = np.nanmedian(stack[:, known], axis=0)
    agree = (np.abs(stack - depth) < AGREEMENT * depth).all(-1).sum(0) >= MIN_OTHERS  # NaN never agrees
    return replace(view, segments=replace(segments, depth=np.where(agree[:, None], depth, np.float32(np.nan))))


def _segments(view: View) -> Segments:
    assert view.segments is not None
    return view.segments
