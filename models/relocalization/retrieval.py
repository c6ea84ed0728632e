# SPDX-License-Identifier: Apache-2.0
"""The baseline that needs every map image: nearest images by a global descriptor, mutual matches to them, pose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perception_models.geometry.cameras import Matrix
from perception_models.relocalization.assignment import Indices
from perception_models.relocalization.fix import Fix, judge, no_fix
from perception_models.relocalization.matching import Query, mutual_matches
from perception_models.relocalization.pose import estimate_pose
from perception_models.relocalization.settings import FixSettings
from perception_models.relocalization.views import View, finite_rows
from perception_models.relocalization.vocabulary import Vocabulary

BYTES_PER_POINT = 6  # three coordinates of 16 bits, as the landmark map keeps them; descriptors take a byte a number


class RetrievalMap:
    """Key points with descriptors and map points of every map image, and one global descriptor each."""

    def __init__(self, views: Sequence[View], neighbours: int = 5, seed: int = 0) -> None:
        """Keep what has a surface of each view; a query is matched to the `neighbours` nearest."""
        known = [finite_rows(view.surface) for view in views]
        self.poses = np.stack([view.pose for view in views])
        self._points = [view.surface[rows] for view, rows in zip(views, known, strict=True)]
        self._descriptors = [view.features.descriptors[rows] for view, rows in zip(views, known, strict=True)]
        self._neighbours = neighbours
        self._vocabulary = Vocabulary(self._descriptors, seed)
        self._globals = np.stack([self._vocabulary.describe(descriptors) for descriptors in self._descriptors])

    @property
    def megabytes(self) -> float:
        """Size of a file of it, uncompressed."""
        points = sum(len(points) * (BYTES_PER_POINT + self._vocabulary.words.shape[1]) for points in self._points)
        return float(points + self._globals.size * 2) / 1e6

    def nearest(self, query: Query) -> Indices:
        """Views from the most to the least alike."""
        return np.argsort(-self._globals @ self._vocabulary.describe(query.features.descriptors), kind="stable")

    def find(self, query: Query, settings: FixSettings) -> Fix:
        """The query's pose from its matches to the nearest views."""
        pixels, points = [], []
        for view in self.nearest(query)[: self._neighbours]:
            left, right = mutual_matches(query.features.descriptors, self._descriptors[view], settings.min_similarity)
            pixels.append(query.features.points[left])
            points.append(self._points[view][right])
        matched, places = np.concatenate(pixels), np.concatenate(points)
        estimate = estimate_pose(matched, places, query.camera_matrix, settings.max_error)
        if estimate is None:
            return no_fix("the nearest images do not match")
        return judge(query, matched, places, estimate, settings)

    def nearest_pose(self, query: Query) -> Matrix:
        """Pose (4, 4) of the most similar view: what retrieval alone tells."""
        pose: Matrix = self.poses[self.nearest(query)[0]]
        return pose
