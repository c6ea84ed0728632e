# SPDX-License-Identifier: Apache-2.0
"""Fast point feature histograms (Rusu et al., ICRA 2009, section IV), square-rooted: how normals lie around a point.

A point's histogram counts three angles of the Darboux frame between it and each neighbour; its descriptor adds the
histograms of its neighbours, nearer ones more. The square root of a histogram of sum 1 is a unit vector whose Euclidean
distance is Hellinger's, which does not let the fullest bins decide alone (Arandjelovic and Zisserman, CVPR 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from perception_models.registration.parallel import each

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

BINS = 11  # of each of the three angles, as in the paper
WIDTH = 3 * BINS
BLOCK = 32_768  # pairs whose angles are computed at once: they stay in the cache


@dataclass(frozen=True)
class Pairs:
    """Pairs of neighbours, each once, in the order of their first point: indices (P,) of both, distance (P,) in metres,
    and bins (3, P) of the angles, numbered through 0 to WIDTH - 1."""

    first: Indices
    second: Indices
    distance: Floats
    bins: Indices

    def within(self, radius: float) -> Pairs:
        """Those no farther apart than a radius (m)."""
        near = np.flatnonzero(self.distance < radius)
        return Pairs(self.first[near], self.second[near], self.distance[near], self.bins[:, near])


def describe(points: Floats, normals: Floats, radii: Sequence[float], threads: int = 1) -> Floats:
    """Descriptors (N, 33 * R) of unit length of points (N, 3) with unit normals (N, 3), from the neighbours within each
    of R radii (m); the part of a radius is zero where a point has no neighbour within it."""
    pairs = _neighbours(points, normals, max(radii), threads)
    parts = each(lambda radius: _histograms(len(points), pairs.within(radius), radius), radii, threads)
    return np.hstack(parts) / np.float32(np.sqrt(len(parts)))


def _neighbours(points: Floats, normals: Floats, radius: float, threads: int) -> Pairs:
    first, second = cKDTree(points).query_pairs(radius, output_type="ndarray").T
    order = np.argsort(first.astype(np.uint16) if len(points) < 2**16 else first, kind="stable")
    first, second = first[order], second[order]
    rows, x, n = np.array_split(np.arange(len(first)), 1 + len(first) // BLOCK), points.T.copy(), normals.T.copy()
    parts = each(lambda block: _measured(x, n, first[block], second[block]), rows, threads)
    distance, bins = zip(*parts, strict=True)
    return Pairs(first, second, np.concatenate(distance), np.concatenate(bins, axis=1))


def _measured(points: Floats, normals: Floats, first: Indices, second: Indices) -> tuple[Floats, Indices]:
    """Distance (P,) and bins (3, P) of pairs (P,), (P,) of points (3, N)."""
    offset = np.take(points, second, axis=1) - np.take(points, first, axis=1)
    distance = np.sqrt(_dot(offset, offset))
    direction = (offset / np.maximum(distance, np.float32(1e-9))).astype(np.float32, copy=False)
    return distance, _angle_bins(direction, np.take(normals, first, axis=1), np.take(normals, second, axis=1))


def _angle_bins(direction: Floats, first: Floats, second: Floats) -> Indices:
    """Bins (3, P) of pairs with unit direction (3, P) from first to second and unit normals (3, P).

    The frame u, v = d x u / |d x u|, w = u x v stands on the point whose normal u is closer to the line d, so a pair
    has the same angles from both ends. With the other normal n, written out: v n = d (u x n) / s and
    w n = (d n - (d u) (u n)) / s with s = |d x u|; a change of ends changes only which normal is u, and the sign of d.
    """
    from_first, from_second = _dot(first, direction), _dot(second, direction)
    together = _dot(first, second)
    triple = _dot(direction, _cross(first, second))
    swap = np.abs(from_first) < np.abs(from_second)
    phi = np.where(swap, -from_second, from_first)
    other = np.where(swap, -from_first, from_second)
    sine = np.maximum(np.sqrt(np.maximum(1 - phi * phi, 0)), np.float32(1e-6))
    theta = np.arctan2((other - phi * together) / sine, together)
    values = (theta / np.float32(2 * np.pi) + np.float32(0.5), (triple / sine + 1) / 2, (phi + 1) / 2)
    return np.stack([_numbered(value, angle) for angle, value in enumerate(values)])


def _numbered(value: Floats, angle: int) -> Indices:
    """Bins (P,) of values between 0 and 1, those of the angle with this number."""
    return np.clip((value * BINS).astype(np.intp), 0, BINS - 1) + BINS * angle


def _histograms(count: int, pairs: Pairs, radius: float) -> Floats:
    """Square-rooted histograms (N, 33) of unit length from the pairs within a radius."""
    counts = np.zeros(count * WIDTH, np.float32)
    for end in (pairs.first, pairs.second):
        for bins in pairs.bins:
            counts += np.bincount(end * WIDTH + bins, minlength=len(counts))
    simple = counts.reshape(count, WIDTH)
    simple /= np.maximum(simple[:, :BINS].sum(axis=1, keepdims=True), 1)
    weight = 1 / np.maximum(pairs.distance, np.float32(radius / 10)) ** 2
    ends = np.searchsorted(pairs.first, np.arange(count + 1))
    upper = csr_matrix((weight, pairs.second, ends), shape=(count, count))
    around = upper @ simple + upper.T @ simple
    around /= np.maximum(around[:, :BINS].sum(axis=1, keepdims=True), 1e-12)
    histogram: Floats = np.sqrt((around + simple) / 6)  # two histograms of three angles, each of sum 1
    return histogram


def _dot(a: Floats, b: Floats) -> Floats:
    """Dot products (P,) of columns (3, P)."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _cross(a: Floats, b: Floats) -> Floats:
    """Cross products (3, P) of columns (3, P)."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
