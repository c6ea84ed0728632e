# SPDX-License-Identifier: Apache-2.0
"""Key points of an image matched to landmarks: first by descriptor alone, then near where a first pose expects them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix, project
from perception_models.relocalization.assignment import Indices, best_pairs
from perception_models.relocalization.features import Features, Floats
from perception_models.relocalization.landmarks import Landmarks
from perception_models.relocalization.lines import Lines
from perception_models.relocalization.tracking import expected_pairs

BLOCK = 4096  # landmarks compared at once: similarities stay in the cache
NEIGHBOURS = 8


@dataclass(frozen=True)
class Query:
    """An image to be found: its key points, its camera (3, 3), its (width, height), its lines where wanted."""

    features: Features
    camera_matrix: Matrix
    size: tuple[int, int]
    lines: Lines | None = None


def mutual_matches(left: Floats, right: Floats, min_similarity: float) -> tuple[Indices, Indices]:
    """Index pairs of unit descriptors (N, D) and (M, D) that are each other's most similar, and similar enough."""
    best, similarity = np.zeros(len(left), np.int64), np.full(len(left), -np.inf, np.float32)
    for start in range(0, len(right), BLOCK):
        block = left @ right[start : start + BLOCK].T
        nearest = block.argmax(1)
        values = np.take_along_axis(block, nearest[:, None], 1)[:, 0]
        better = values > similarity
        best[better], similarity[better] = start + nearest[better], values[better]
    good = np.flatnonzero(similarity > min_similarity)
    return best_pairs(good, best[good], similarity[good])


def guided_matches(
    query: Query, landmarks: Landmarks, visible: Indices, pose: Matrix, radius: float, min_similarity: float
) -> tuple[Indices, Indices]:
    """Pairs (key points, landmarks) of the landmarks `visible` (K,): each within `radius` pixels of where `pose`,
    camera -> map, expects it, and the most similar there."""
    pixels = project(se3.apply(se3.inverse(pose), landmarks.positions[visible]), query.camera_matrix)
    key_points, rows = expected_pairs(pixels, query.features.points, radius, NEIGHBOURS)
    chosen = visible[rows]
    similarity = np.einsum("nd,nd->n", query.features.descriptors[key_points], landmarks.descriptors[chosen])
    alike = similarity > min_similarity
    return best_pairs(key_points[alike], chosen[alike], similarity[alike])
