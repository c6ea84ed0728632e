# SPDX-License-Identifier: Apache-2.0
"""Divides a graph into parts without strong inner contrast: Felzenszwalb and Huttenlocher's criterion (IJCV 2004), with
Boruvka's order of merging (Haxhimusa and Kropatsch, Segmentation Graph Hierarchies, SSPR 2004), which takes a dozen
rounds over all edges at once instead of a loop over them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int32]
Floats = npt.NDArray[np.floating]


def divide(count: int, edges: Indices, cost: Floats, coarseness: float) -> Indices:
    """Parts (N,) 0..S-1 of a graph of `count` nodes with edges (2, E) by rising cost (E,); coarseness: their k.

    Each round every part A takes its lightest edge; along it A and B become one where the edge costs no more than
    min(Int(A) + k / |A|, Int(B) + k / |B|), Int being the highest cost by which a part was joined.
    """
    part, size, inner = np.arange(count, dtype=np.int32), np.ones(count, np.float32), np.zeros(count, np.float32)
    while len(cost):
        bound = inner + np.float32(coarseness) / size
        first = lightest(len(size), edges)
        linked = np.flatnonzero(first < len(cost))
        final = np.zeros(len(size), bool)
        final[linked] = cost[first[linked]] > bound[linked]  # all of its other edges cost still more
        chosen = first[linked[~final[linked]]]
        chosen = chosen[cost[chosen] <= np.minimum(*bound[edges[:, chosen]])]
        name = joined(len(size), edges[:, chosen])
        size, inner = _grown(name, size, inner, edges[0, chosen], cost[chosen])
        part = name[part]
        one, other = name[edges]
        kept = np.flatnonzero((one != other) & ~(final[edges[0]] | final[edges[1]]))
        edges, cost = np.stack([one[kept], other[kept]]), cost[kept]
    return part


def lightest(count: int, ends: Indices) -> Indices:
    """The first edge (count,) at each part, of edges (2, E) by rising weight; E where a part has none."""
    found = np.full((2, count), ends.shape[1], np.int32)
    falling = np.arange(ends.shape[1] - 1, -1, -1, dtype=np.int32)
    for row in (0, 1):
        found[row, ends[row, ::-1]] = falling  # of several to one place, the last is kept
    first: Indices = found.min(axis=0)
    return first


def joined(count: int, ends: Indices) -> Indices:
    """New names (count,) 0.. of parts, alike where edges (2, E) connect them."""
    root = np.arange(count, dtype=np.int32)
    while ends.size:
        high = np.maximum(ends[0], ends[1])
        root[high] = np.minimum(ends[0], ends[1])
        while not np.array_equal(root, above := root[root]):
            root = above
        ends = root[ends]
        ends = ends[:, ends[0] != ends[1]]
    stands = root == np.arange(count)
    return (np.cumsum(stands, dtype=np.int32) - 1)[root]


def _grown(name: Indices, size: Floats, inner: Floats, one: Indices, cost: Floats) -> tuple[Floats, Floats]:
    """Sizes and inner costs of the parts that joined parts make, by edges that start at parts `one` (J,)."""
    grown = np.bincount(name, size).astype(np.float32)
    widest = np.zeros(len(grown), np.float32)
    np.maximum.at(widest, name, inner)
    np.maximum.at(widest, name[one], cost)
    return grown, widest
