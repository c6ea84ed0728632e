# SPDX-License-Identifier: Apache-2.0
"""Line segments of one image with the depth of their ends, and which segments of the scene they may be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Matrix, project
from perception_models.relocalization.assignment import Indices, best_pairs
from perception_models.relocalization.depth import depth_at
from perception_models.relocalization.features import Floats, unit
from perception_models.relocalization.lines import SAMPLES, Lines, along

STRAIGHT = 0.02  # share of its depth by which a sample may be off the line
MIN_STRAIGHT = 8  # samples of SAMPLES that must lie on it
MIN_OVERLAP = 0.5  # of the shorter of two segments
MIN_DEPTH = 0.05  # m; nearer ends are beside or behind the camera
PAIRS = np.array(list(combinations(range(SAMPLES), 2)))


@dataclass(frozen=True)
class Segments:
    """ends (L, 2, 2) in pixels; descriptors (L, D), unit length, one a segment, whichever end comes first; depth (L, 2)
    of the ends, metres along the optical axis, NaN where unknown."""

    ends: Floats
    descriptors: Floats
    depth: Floats

    def __len__(self) -> int:
        return len(self.ends)


def segments_of(lines: Lines, depth: Floats | None = None) -> Segments:
    """The lines of an image, whose depth image (H, W) is known or not."""
    unknown = np.full((len(lines), 2), np.nan, np.float32)
    known = unknown if depth is None else end_depths(depth, lines.ends)
    return Segments(lines.ends, unit(lines.descriptors.mean(1)), known)


def end_depths(depth: Floats, ends: Floats) -> Floats:
    """Depths (L, 2) of the ends of segments (L, 2, 2) that are straight in space, NaN for the others.

    The inverse depth of a straight line is linear in the image. The line through two samples that most samples lie on
    is taken, and fitted to these.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / depth_at(depth, along(ends)).astype(np.float64)
    share = np.linspace(0, 1, SAMPLES)
    first, second = inverse[:, PAIRS[:, 0]], inverse[:, PAIRS[:, 1]]
    slope = (second - first) / (share[PAIRS[:, 1]] - share[PAIRS[:, 0]])
    lines = (first - slope * share[PAIRS[:, 0]])[..., None] + slope[..., None] * share  # (L, pairs, samples)
    fits = np.abs(inverse[:, None] - lines) < STRAIGHT * lines  # False where the depth is unknown
    best = fits[np.arange(len(ends)), fits.sum(-1).argmax(1)]
    return np.stack([_fitted_ends(*row) for row in zip(inverse, best, strict=True)]) if len(ends) else ends[:, 0]


def _fitted_ends(inverse: Matrix, fits: NDArray[np.bool_]) -> Floats:
    """Depths (2,) at both ends of the line through the samples that fit."""
    if fits.sum() < MIN_STRAIGHT:
        return np.full(2, np.nan, np.float32)
    slope, start = np.polyfit(np.linspace(0, 1, SAMPLES)[fits], inverse[fits], 1)
    found = np.array([start, start + slope])
    return np.where(found > 0, 1 / found, np.nan).astype(np.float32)


def expected_segments(ends: Floats, places: Floats, camera_matrix: Matrix, radius: float) -> tuple[Indices, Indices]:
    """Pairs of indices of segments of an image, ends (L, 2, 2), and of the scene, places (K, 2, 3) in the camera's
    frame, where both ends of the former are within `radius` pixels of the latter, and they overlap."""
    ahead = np.flatnonzero((places[..., 2] > MIN_DEPTH).all(1))
    if not len(ends) or not len(ahead):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pixels = np.asarray(project(places[ahead], camera_matrix), np.float32)
    direction = pixels[:, 1] - pixels[:, 0]
    length = np.maximum(np.linalg.norm(direction, axis=1), np.float32(1e-3))
    direction /= length[:, None]
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    across = np.abs(ends @ normal.T - (pixels[:, 0] * normal).sum(1))  # (L, 2, K)
    row, column = np.nonzero(across.max(1) < radius)
    reach = ((ends[row] - pixels[column, None, 0]) * direction[column, None]).sum(-1)
    low, high = np.maximum(reach.min(1), 0), np.minimum(reach.max(1), length[column])
    shorter = np.minimum(np.ptp(reach, axis=1), length[column])
    overlapping = high - low > MIN_OVERLAP * shorter
    return row[overlapping], ahead[column[overlapping]]


def match_segments(
    seen: Segments, places: Floats, descriptors: Floats, camera_matrix: Matrix, radius: float, min_similarity: float
) -> tuple[Indices, Indices]:
    """Pairs (segments of the image, segments of the scene) that are expected there, alike, and each other's best."""
    rows, columns = expected_segments(seen.ends, places, camera_matrix, radius)
    similarity = np.einsum("nd,nd->n", seen.descriptors[rows], descriptors[columns])
    alike = similarity > min_similarity
    return best_pairs(rows[alike], columns[alike], similarity[alike])
