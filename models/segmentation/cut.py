# SPDX-License-Identifier: Apache-2.0
"""Divides a graph with attracting and repelling edges so that the sum of what is cut is least: the multicut problem.

Greedy additive edge contraction gives a good division, moves of single nodes between groups better it (Keuper et al.,
Efficient Decomposition of Image and Mesh Graphs by Lifted Multicuts, ICCV 2015). How many groups there are follows.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]
Links = list[dict[int, float]]

MOST = 4.0  # weight of an edge that is certain: the logarithm of odds of 55 to 1
ROUNDS = 20  # of moves


def cut(
    count: int, edges: Indices, affinity: Floats, threshold: float = 0.5, weight: Floats | None = None
) -> npt.NDArray[np.int32]:
    """Group (S,) int32, 0.. without gaps, of each of `count` nodes of a graph with edges (E, 2).

    affinity (E,): how likely both ends are of one group, 0 to 1; edges above `threshold` attract. weight (E,): how much
    an edge counts, 1 each. Raises ValueError for an affinity that is no number between 0 and 1.
    """
    if not ((affinity >= 0) & (affinity <= 1)).all():
        raise ValueError("affinities must be between 0 and 1")
    odds = np.log(np.clip(affinity, 1e-6, None)) - np.log(np.clip(1 - affinity, 1e-6, None))
    gain = np.clip(odds - np.log(threshold / (1 - threshold)), -MOST, MOST)
    if weight is not None:
        gain = gain * weight
    return divide(count, edges, gain).astype(np.int32)


def divide(count: int, edges: Indices, gain: Floats) -> Indices:
    """Groups (S,) 0.. of nodes with edges (E, 2) that gain (E,) by not being cut: contractions of nodes, then moves of
    nodes and contractions of groups in turns, while the cost falls."""
    groups: Indices = np.arange(count)
    least = np.inf
    while (now := cost(groups, edges, gain)) < least - 1e-9:
        least = now
        groups = contract(count, groups[edges], gain)[groups]
        groups = np.unique(improve(groups, edges, gain), return_inverse=True)[1]
    return groups


def cost(groups: Indices, edges: Indices, gain: Floats) -> float:
    """The sum of what is cut, of edges (E, 2) that gain (E,) by not being cut."""
    apart = groups[edges[:, 0]] != groups[edges[:, 1]]
    return float(gain[apart].sum())


def contract(count: int, edges: Indices, gain: Floats) -> Indices:
    """Groups (S,): the edge that attracts most is contracted and parallel edges are added up, while any attracts."""
    links = _links(count, edges, gain)
    owner = np.arange(count)
    heap = [(-value, a, b) for a, near in enumerate(links) for b, value in near.items() if a < b and value > 0]
    heapq.heapify(heap)
    while heap:
        value, a, b = heapq.heappop(heap)
        if links[a].get(b) != -value:
            continue  # one of both is gone, or the edge has changed
        if len(links[a]) < len(links[b]):
            a, b = b, a
        owner[b] = a
        for node, more in _absorb(links, a, b):
            if more > 0:
                heapq.heappush(heap, (-more, min(a, node), max(a, node)))
    return _roots(owner)


def _absorb(links: Links, a: int, b: int) -> list[tuple[int, float]]:
    """Node b becomes part of a -> the edges of a that changed."""
    del links[a][b], links[b][a]
    changed = []
    for node, value in links[b].items():
        del links[node][b]
        links[a][node] = links[node][a] = links[a].get(node, 0.0) + value
        changed.append((node, links[a][node]))
    links[b] = {}
    return changed


def improve(groups: Indices, edges: Indices, gain: Floats) -> Indices:
    """Groups (S,) after single nodes moved to another group, or one of their own, while that gains."""
    links = _links(len(groups), edges, gain)
    groups = groups.copy()
    fresh = int(groups.max(initial=-1)) + 1
    for _ in range(ROUNDS):
        moved = False
        for node, near in enumerate(links):
            target, better = _best_move(node, near, groups)
            if better > 1e-9:
                groups[node] = fresh if target < 0 else target
                fresh += target < 0
                moved = True
        if not moved:
            break
    return groups


def _best_move(node: int, near: dict[int, float], groups: Indices) -> tuple[int, float]:
    """The group to which a node should move, -1 for one of its own, and what that gains."""
    pull: dict[int, float] = {-1: 0.0}
    for other, value in near.items():
        group = int(groups[other])
        pull[group] = pull.get(group, 0.0) + value
    stay = pull.pop(int(groups[node]), 0.0)
    target = max(pull, key=pull.__getitem__)
    return target, pull[target] - stay


def _links(count: int, edges: Indices, gain: Floats) -> Links:
    """The gain of each neighbour of each node; parallel edges are added up, loops left out."""
    links: Links = [{} for _ in range(count)]
    rows: Sequence[tuple[int, int]] = edges.tolist()
    for (a, b), value in zip(rows, gain.tolist(), strict=True):
        if a != b:
            links[a][b] = links[b][a] = links[a].get(b, 0.0) + value
    return links


def _roots(owner: Indices) -> Indices:
    while not np.array_equal(owner, above := owner[owner]):
        owner = above
    return owner
