# SPDX-License-Identifier: Apache-2.0
"""Which key points of which views are the same place, told by where surface points are expected and by descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from perception_models.geometry import se3
from perception_models.geometry.cameras import project
from perception_models.relocalization.assignment import Indices, best_pairs
from perception_models.relocalization.features import Floats, unit
from perception_models.relocalization.settings import MapSettings
from perception_models.relocalization.views import View, finite_rows

NEIGHBOURS = 4  # key points looked at around an expected place


@dataclass(frozen=True)
class Observations:
    """Which key point of which view is which landmark: three index arrays (M,), view after view."""

    views: Indices
    key_points: Indices
    landmarks: Indices


def track(views: Sequence[View], settings: MapSettings) -> Observations:
    """Follow surface points from view to view: a landmark that is expected at a key point, at its depth, with a similar
    descriptor, is seen again; other key points with depth start landmarks."""
    pool = _Pool(views[0].features.descriptors.shape[1] if views else 0)
    seen = [pool.add(view, settings) for view in views]
    numbers = [np.full(len(key_points), number) for number, (key_points, _) in enumerate(seen)]
    return Observations(*(_joined(part) for part in (numbers, [k for k, _ in seen], [i for _, i in seen])))


def expected_pairs(pixels: Floats, points: Floats, radius: float, neighbours: int) -> tuple[Indices, Indices]:
    """Pairs (points, pixels) of indices: key points (N, 2) within a radius of expected pixels (K, 2), NaN = nowhere."""
    candidates = np.flatnonzero(finite_rows(pixels))
    if not len(points) or not len(candidates):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    _, found = cKDTree(points).query(pixels[candidates], k=neighbours, distance_upper_bound=radius)
    row, column = np.nonzero(found < len(points))
    return found[row, column], candidates[row]


class _Pool:
    """Landmarks while they grow: sums over the views that saw them."""

    def __init__(self, dimensions: int) -> None:
        self._positions = np.empty((0, 3), np.float32)
        self._descriptors = np.empty((0, dimensions), np.float32)
        self._counts = np.empty(0, np.float32)

    def add(self, view: View, settings: MapSettings) -> tuple[Indices, Indices]:
        """Match a view to the landmarks so far, fuse what matches, append the rest -> (key points, landmarks)."""
        surface, descriptors = view.surface, view.features.descriptors
        key_points, landmarks = self._match(view, settings)
        self._positions[landmarks] += surface[key_points]
        self._descriptors[landmarks] += descriptors[key_points]
        self._counts[landmarks] += 1
        assigned = np.full(len(surface), -1, np.int64)
        assigned[key_points] = landmarks
        fresh = np.flatnonzero((assigned < 0) & finite_rows(surface))
        assigned[fresh] = len(self._counts) + np.arange(len(fresh))
        self._positions = np.concatenate([self._positions, surface[fresh]])
        self._descriptors = np.concatenate([self._descriptors, descriptors[fresh]])
        self._counts = np.concatenate([self._counts, np.ones(len(fresh), np.float32)])
        known = np.flatnonzero(assigned >= 0)
        return known, assigned[known]

    def _match(self, view: View, settings: MapSettings) -> tuple[Indices, Indices]:
        """Pairs (key points, landmarks), each used once."""
        near = se3.apply(se3.inverse(view.pose), self._positions / self._counts[:, None])
        pixels = project(near, view.camera_matrix)
        key_points, landmarks = expected_pairs(pixels, view.features.points, settings.merge_pixels, NEIGHBOURS)
        expected, found = near[landmarks, 2], view.depth[key_points]
        same = np.abs(found - expected) < settings.merge_depth * expected  # False where the depth is unknown
        key_points, landmarks = key_points[same], landmarks[same]
        means = unit(self._descriptors[landmarks])
        similarity = np.einsum("nd,nd->n", means, view.features.descriptors[key_points])
        alike = similarity > settings.merge_similarity
        return best_pairs(key_points[alike], landmarks[alike], similarity[alike])


def _joined(parts: Sequence[Indices]) -> Indices:
    return np.concatenate([np.empty(0, np.int64), *parts])
