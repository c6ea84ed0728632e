# SPDX-License-Identifier: Apache-2.0
"""Which super-points are near each other, and what their surfaces say where they touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from perception_models.segmentation.superpoints import Colors, check_cloud
from perception_models.segmentation.thinning import Thinned, means

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.integer]
SHIFT = 32  # of the lower super-point in a pair's key
CELL = 0.1  # m, of which a super-point has one point when distances are measured


@dataclass(frozen=True)
class Nodes:
    """Of super-points: points (S,), centre (S, 3), mean normal (S, 3), mean colour (S, 3) 0 to 1, extent (S, 3) m."""

    size: npt.NDArray[np.int64]
    centres: Floats
    normals: Floats
    colors: Floats
    extents: Floats

    @staticmethod
    def of(points: Floats, normals: Floats, colors: Colors | None, labels: Indices) -> Nodes:
        """Average by label (N,) 0..S-1."""
        check_cloud(points, normals, colors)
        count = int(labels.max(initial=-1)) + 1
        low, high = np.full((count, 3), np.inf, np.float32), np.full((count, 3), -np.inf, np.float32)
        np.minimum.at(low, labels, points)
        np.maximum.at(high, labels, points)
        grey = np.full((count, 3), 0.5, np.float32)
        shades = grey if colors is None else means(colors, labels, count) / np.float32(255)
        size = np.bincount(labels, minlength=count)
        centres, directions = means(points, labels, count), means(normals, labels, count)
        return Nodes(size, centres, directions, np.asarray(shades, np.float32), high - low)


@dataclass(frozen=True)
class Contacts:
    """Of pairs (E, 2): how many neighbours lie across (E,), 0 where they do not touch; where they do, how much the
    surface bends between them (E,), 1 - cosine, and which share of that is convex (E,)."""

    length: Floats
    bend: Floats
    convex: Floats


def near_superpoints(points: Floats, labels: Indices, near: float) -> tuple[npt.NDArray[np.int64], Floats]:
    """Pairs (E, 2), lower first and sorted, of super-points that come within `near` m of each other, and how near
    (E,), as far as one point of each in every cell of space tells."""
    cells = Thinned.of(points, CELL).rows
    _, chosen = np.unique(cells * (int(labels.max(initial=0)) + 1) + labels, return_index=True)
    found = cKDTree(points[chosen]).query_pairs(near, output_type="ndarray")
    keys = pair_keys(labels[chosen[found[:, 0]]], labels[chosen[found[:, 1]]])
    gaps = np.linalg.norm(points[chosen[found[:, 0]]] - points[chosen[found[:, 1]]], axis=1)
    keys, slot = np.unique(keys, return_inverse=True)
    distance = np.full(len(keys), np.inf, np.float32)
    np.minimum.at(distance, slot, gaps)
    pairs = np.column_stack([keys >> SHIFT, keys & ((1 << SHIFT) - 1)])
    apart = pairs[:, 0] != pairs[:, 1]
    return pairs[apart], distance[apart]


def pair_keys(one: Indices, other: Indices) -> npt.NDArray[np.int64]:
    """One number for a pair, whichever comes first; they sort as pairs do, lower first."""
    return np.minimum(one, other).astype(np.int64) << SHIFT | np.maximum(one, other).astype(np.int64)


def find_rows(pairs: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The row of each key (K,) among sorted pairs (E, 2), -1 where it is none of them."""
    known = pair_keys(pairs[:, 0], pairs[:, 1])
    if not len(known):
        return np.full(len(keys), -1, np.int64)
    rows = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[rows] == keys, rows, -1)


def touch(points: Floats, normals: Floats, labels: Indices, edges: Indices, pairs: npt.NDArray[np.int64]) -> Contacts:
    """What neighbours (2, B) in a cloud (N, 3) that belong to different super-points say of pairs (E, 2)."""
    rows = find_rows(pairs, pair_keys(*labels[edges]))
    (one, other), rows = edges[:, rows >= 0], rows[rows >= 0]
    turn = normals[other] - normals[one]
    bend = np.einsum("ei,ei->e", turn, turn) / 2
    opens = np.einsum("ei,ei->e", turn, points[other] - points[one]) > 0
    length = np.bincount(rows, minlength=len(pairs))
    total = np.bincount(rows, bend, len(pairs))
    convex = np.bincount(rows, bend * opens, len(pairs)) / np.maximum(total, 1e-6)
    return Contacts(*(np.asarray(part, np.float32) for part in (length, total / np.maximum(length, 1), convex)))
