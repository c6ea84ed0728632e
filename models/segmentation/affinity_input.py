# SPDX-License-Identifier: Apache-2.0
"""A graph of super-points as tensors of fixed width for the affinity network, for training and on the robot alike.

Nothing in them depends on which predictor gave masks and features, or on where up is: of the encoder's features only
the likeness of two super-points enters, and of normals only angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.segmentation.graph import SuperpointGraph
from perception_models.segmentation.pair_channels import SURFACE, surface_channels, unit
from perception_models.segmentation.pair_scores import CERTAIN, PairScores

Floats = npt.NDArray[np.float32]
SLOTS = 24  # neighbours of a super-point that the network hears
NODE_CHANNELS, EDGE_CHANNELS = 8, len(SURFACE) + 7
TENSORS = ("nodes", "edges", "neighbours", "mask", "prior")


@dataclass(frozen=True)
class AffinityInput:
    """tensors: nodes (S, NODE_CHANNELS), edges (S, D, EDGE_CHANNELS) float32, neighbours (S, D) int64, mask (S, D) 1
    where a slot is used, prior (S, D) log odds by `PairScores`; slots (2E,): the place, row * D + column,
    of each edge at its first ends and then at its second ends, -1 where it found none."""

    tensors: dict[str, npt.NDArray[np.generic]]
    slots: npt.NDArray[np.int64]

    @staticmethod
    def of(graph: SuperpointGraph, slots: int = SLOTS, scores: PairScores | None = None) -> AffinityInput:
        """Each super-point hears the neighbours it touches most, then the nearest. `scores`: others than the shipped
        ones."""
        scores = scores or PairScores.shipped()
        count, edges = len(graph), graph.edges
        source, target = np.concatenate([edges, edges[:, ::-1]]).T
        row = np.tile(np.arange(len(edges)), 2)
        urgency = np.tile(graph.distance / graph.settings.near - np.log1p(graph.contacts.length), 2)
        order = np.lexsort((urgency, source))
        start = np.searchsorted(source[order], np.arange(count))
        place = np.arange(len(order)) - start[source[order]]
        kept = order[place < slots]
        slot = np.full(len(source), -1, np.int64)
        slot[kept] = source[kept] * slots + place[place < slots]
        prior = scores(graph)
        channels = _edge_channels(graph, scores, prior, source, target, row)
        tensors: dict[str, npt.NDArray[np.generic]] = {
            "nodes": _node_channels(graph),
            "edges": _scattered(channels[kept], slot[kept], count, slots),
            "neighbours": _scattered(target[kept], slot[kept], count, slots),
            "mask": _scattered(np.ones(len(kept), np.float32), slot[kept], count, slots),
            "prior": _scattered(prior[row[kept]], slot[kept], count, slots),
        }
        return AffinityInput(tensors, slot)

    def gathered(self, odds: Floats, prior: Floats) -> Floats:
        """Log odds (E,) of each edge from the network's (S, D): the mean of both directions; `prior` (E,) where an edge
        found no slot."""
        found = self.slots.reshape(2, -1)
        values = np.where(found >= 0, odds.reshape(-1)[found], 0).sum(axis=0)
        count = (found >= 0).sum(axis=0)
        return np.where(count > 0, values / np.maximum(count, 1), prior).astype(np.float32)


def _scattered(values: npt.NDArray[np.generic], slot: npt.NDArray[np.int64], count: int, slots: int) -> npt.NDArray:  # type: ignore[type-arg]
    """Values (K, ...) at their slots in zeros (S, D, ...)."""
    table = np.zeros((count * slots, *values.shape[1:]), values.dtype)
    table[slot] = values
    return table.reshape(count, slots, *values.shape[1:])


def _node_channels(graph: SuperpointGraph) -> Floats:
    nodes = graph.nodes
    flatness = np.linalg.norm(nodes.normals, axis=1, keepdims=True)
    extents = np.sort(nodes.extents, axis=1)
    views = np.minimum(graph.views, 10)[:, None] / 10
    parts = [np.log1p(nodes.size)[:, None] / 8, flatness, nodes.colors, extents[:, 1:], views]
    return np.hstack(parts).astype(np.float32)


def _edge_channels(
    graph: SuperpointGraph,
    scores: PairScores,
    prior: Floats,
    source: npt.NDArray[np.int64],
    target: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
) -> Floats:
    """What pairs share (2E, EDGE_CHANNELS), seen from their source."""
    nodes = graph.nodes
    normals, features = unit(nodes.normals), unit(graph.features)
    columns = [
        graph.agreement[row],
        np.log1p(graph.weight)[row] / 5,
        prior[row] / CERTAIN,
        scores.of_surface(graph)[row] / CERTAIN,
        np.einsum("ei,ei->e", normals[source], unit(nodes.centres[target] - nodes.centres[source])),
        (np.log1p(nodes.size[target]) - np.log1p(nodes.size[source])) / 5,
        np.einsum("ei,ei->e", features[source], features[target]),
    ]
    return np.column_stack([*columns, surface_channels(graph)[row]]).astype(np.float32)
