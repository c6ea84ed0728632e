# SPDX-License-Identifier: Apache-2.0
"""Line segments of the scene with one descriptor each, fused from every view that saw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_models.geometry import se3
from perception_models.relocalization.assignment import Indices
from perception_models.relocalization.depth import lift
from perception_models.relocalization.features import Floats, unit
from perception_models.relocalization.segments import Segments, match_segments
from perception_models.relocalization.settings import MapSettings
from perception_models.relocalization.views import View


@dataclass(frozen=True)
class LineLandmarks:
    """Those that most views saw come first. ends (K, 2, 3) in the map, metres; descriptors (K, D) of unit length."""

    ends: Floats
    descriptors: Floats

    def __len__(self) -> int:
        return len(self.ends)

    @staticmethod
    def none() -> LineLandmarks:
        """A map of points only."""
        return LineLandmarks(np.empty((0, 2, 3), np.float32), np.empty((0, 0), np.float32))


def fuse_lines(views: Sequence[View], settings: MapSettings) -> LineLandmarks:
    """Segments seen by as many views as landmarks must be; their ends where half of these views saw them end."""
    pool = _Pool(views[0].features.descriptors.shape[1])
    for view in views:
        pool.add(view, settings)
    counts = np.array([len(seen) for seen in pool.observed], np.int64)
    kept = np.argsort(-counts, kind="stable")[: settings.max_lines]
    kept = kept[counts[kept] >= settings.min_views]
    if not len(kept):
        return LineLandmarks.none()
    ends = np.stack([_fitted(np.stack(pool.observed[number])) for number in kept])
    return LineLandmarks(ends, unit(pool.descriptors[kept]))


class _Pool:
    """Segments while they grow: the longest observation of each tells where it is looked for in the next view."""

    def __init__(self, dimensions: int) -> None:
        self.observed: list[list[Floats]] = []
        self.descriptors = np.empty((0, dimensions), np.float32)  # sums
        self._longest = np.empty((0, 2, 3), np.float32)

    def add(self, view: View, settings: MapSettings) -> None:
        """Fuse what matches, append the rest."""
        seen = view.segments
        if seen is None or not len(seen):
            return
        places = se3.apply(view.pose, lift(seen.ends, seen.depth, view.camera_matrix))
        assigned = np.full(len(seen), -1, np.int64)
        rows, numbers = self._match(view, seen, settings)
        assigned[rows] = numbers
        for row in np.flatnonzero(np.isfinite(seen.depth).all(1)):
            self._note(int(assigned[row]), places[row], seen.descriptors[row])

    def _match(self, view: View, seen: Segments, settings: MapSettings) -> tuple[Indices, Indices]:
        near = se3.apply(se3.inverse(view.pose), self._longest)
        similar = settings.merge_similarity
        rows, numbers = match_segments(
            seen, near, unit(self.descriptors), view.camera_matrix, settings.merge_line_pixels, similar
        )
        middle, found = near[numbers, :, 2].mean(1), seen.depth[rows].mean(1)
        same = np.abs(found - middle) < settings.merge_line_depth * middle  # False where the depth is unknown
        return rows[same], numbers[same]

    def _note(self, number: int, ends: Floats, descriptor: Floats) -> None:
        if number < 0:
            self.observed.append([ends])
            self._longest = np.concatenate([self._longest, ends[None]])
            self.descriptors = np.concatenate([self.descriptors, descriptor[None]])
            return
        self.observed[number].append(ends)
        self.descriptors[number] += descriptor
        if _length(ends) > _length(self._longest[number]):
            self._longest[number] = ends


def _length(ends: Floats) -> float:
    return float(np.linalg.norm(ends[1] - ends[0]))


def _fitted(observed: Floats) -> Floats:
    """Ends (2, 3) of the line through all observed ends (M, 2, 3), at the medians of where they begin and end."""
    points = observed.reshape(-1, 3)
    centre = points.mean(0)
    direction = np.linalg.svd(points - centre, full_matrices=False)[2][0]
    reach = (observed - centre) @ direction
    low, high = np.median(reach.min(1)), np.median(reach.max(1))
    return np.asarray(centre + np.outer([low, high], direction), np.float32)
