# SPDX-License-Identifier: Apache-2.0
"""Fast point feature histograms (Rusu et al., ICRA 2009, section IV), square-rooted: how normals lie around a point.

A point's histogram counts three angles of the Darboux frame between it and each neighbour; its descriptor adds the
histograms of its neighbours, nearer ones more. The square root of a histogram of sum 1 is a unit vector whose Euclidean
distance is Hellinger's, which does not let the fullest bins decide alone (Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.intp]

BINS = 11  # of each of the three angles, as in the paper


def describe(points: Floats, normals: Floats, radii: Sequence[float]) -> Floats:
    """Descriptors (N, 33 * R) of unit length of points (N, 3) with unit normals (N, 3), from the neighbours within each
    of R radii (m); the part of a radius is zero where a point has no neighbour within it."""
    pairs = cKDTree(points).query_pairs(max(radii), output_type="ndarray")
    offset = points[pairs[:, 1]] - points[pairs[:, 0]]
    distance = np.sqrt(np.einsum("pi,pi->p", offset, offset))
    bins = _angle_bins(offset / np.maximum(distance, 1e-9)[:, None], normals[pairs[:, 0]], normals[pairs[:, 1]])
    parts = [_histograms(len(points), pairs, distance, bins, radius) for radius in radii]
    return np.hstack(parts) / np.float32(np.sqrt(len(parts)))


def _angle_bins(direction: Floats, first: Floats, second: Floats) -> npt.NDArray[np.int32]:
    """Bins (P, 3), numbered through the three angles, of pairs with unit direction (P, 3) from first to second.

    The frame stands on the point whose normal is closer to the line, so a pair has the same angles from both ends.
    """
    from_first = np.einsum("pi,pi->p", first, direction)
    from_second = np.einsum("pi,pi->p", second, direction)
    swap = np.abs(from_first) < np.abs(from_second)
    u = np.where(swap[:, None], second, first)
    other = np.where(swap[:, None], first, second)
    phi = np.where(swap, -from_second, from_first)
    along = direction * np.where(swap, -1, 1).astype(np.float32)[:, None]
    v = np.cross(along, u)
    v /= np.maximum(np.linalg.norm(v, axis=1), 1e-6)[:, None]
    alpha = np.einsum("pi,pi->p", v, other)
    theta = np.arctan2(np.einsum("pi,pi->p", np.cross(u, v), other), np.einsum("pi,pi->p", u, other))
    values = np.stack([(theta / np.pi + 1) / 2, (alpha + 1) / 2, (phi + 1) / 2], axis=1)
    numbered = np.clip((values * BINS).astype(np.int32), 0, BINS - 1) + BINS * np.arange(3, dtype=np.int32)
    return numbered.astype(np.int32)


def _histograms(count: int, pairs: Pairs, distance: Floats, bins: npt.NDArray[np.int32], radius: float) -> Floats:
    """Square-rooted histograms (N, 33) of unit length from the pairs within a radius."""
    near = distance < radius
    (i, j), distance, bins = pairs[near].T, distance[near], bins[near]
    width = 3 * BINS
    cells = np.concatenate([(i[:, None] * width + bins).ravel(), (j[:, None] * width + bins).ravel()])
    simple = np.bincount(cells, minlength=count * width).reshape(count, width).astype(np.float32)
    simple /= np.maximum(simple[:, :BINS].sum(axis=1, keepdims=True), 1)
    weight = 1 / np.maximum(distance, radius / 10) ** 2
    ends = (np.concatenate([i, j]), np.concatenate([j, i]))
    neighbours = csr_matrix((np.tile(weight, 2), ends), shape=(count, count))
    around = neighbours @ simple
    around /= np.maximum(around[:, :BINS].sum(axis=1, keepdims=True), 1e-12)
    histogram: Floats = np.sqrt((around + simple) / 6)  # two histograms of three angles, each of sum 1
    return histogram
