# SPDX-License-Identifier: Apache-2.0
"""The graph of super-points: which are near each other, what geometry and views say of each pair, and from that how
likely both are of one thing."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt

from perception_models.segmentation.contacts import Contacts, Nodes, find_rows, near_superpoints, pair_keys, touch
from perception_models.segmentation.evidence import Evidence
from perception_models.segmentation.neighbours import neighbour_edges
from perception_models.segmentation.pair_scores import PairScores
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.superpoints import Colors

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.integer]


class SuperpointGraph:
    """Super-points 0..S-1 as nodes; edges (E, 2) int64, lower first, between those within `settings.near`."""

    def __init__(
        self,
        points: Floats,
        normals: Floats,
        colors: Colors | None,
        labels: Indices,
        settings: SegmentationSettings | None = None,
        neighbours: Indices | None = None,
    ) -> None:
        """Of a cloud (N, 3) with normals (N, 3), colours (N, 3) and super-points (N,); `neighbours` (2, B) is its graph
        of nearest neighbours, where it is known. Raises ValueError where they do not fit together."""
        self.settings = settings or SegmentationSettings()
        if neighbours is None:
            neighbours = neighbour_edges(points, self.settings.neighbours, self.settings.reach)
        self.nodes = Nodes.of(points, normals, colors, labels)
        self.edges, self.distance = near_superpoints(points, labels, self.settings.near)
        self.contacts: Contacts = touch(points, normals, labels, neighbours, self.edges)
        self._forget()

    def __len__(self) -> int:
        return len(self.nodes.size)

    def emptied(self) -> SuperpointGraph:
        """The same graph, of which no view has said anything."""
        graph = copy.copy(self)
        graph._forget()
        return graph

    def _forget(self) -> None:
        self.weight = np.zeros(len(self.edges), np.float32)
        self.views = np.zeros(len(self), np.int64)
        self._agreement = np.zeros(len(self.edges), np.float32)
        self._features = np.zeros((len(self), 0), np.float32)

    def add(self, evidence: Evidence) -> None:
        """Take in what a view says; pairs that are no edges are left out."""
        rows = find_rows(self.edges, pair_keys(*evidence.pairs.T))
        known = rows >= 0
        np.add.at(self._agreement, rows[known], (evidence.agreement * evidence.weight)[known])
        np.add.at(self.weight, rows[known], evidence.weight[known])
        if not self._features.shape[1]:
            self._features = np.zeros((len(self), evidence.features.shape[1]), np.float32)
        if len(evidence.superpoints):
            self._features[evidence.superpoints] += evidence.features
            self.views[evidence.superpoints] += 1

    @property
    def features(self) -> Floats:
        """The encoder's features (S, C), a mean over views; 0 where none saw the super-point."""
        return np.asarray(self._features / np.maximum(self.views, 1)[:, None], np.float32)

    @property
    def agreement(self) -> Floats:
        """How far masks agree (E,) that both ends are one, a weighted mean over views; 0 where none showed both."""
        return np.asarray(self._agreement / np.maximum(self.weight, 1e-12), np.float32)

    @property
    def affinity(self) -> Floats:
        """How likely both ends are of one thing (E,), 0 to 1, by surface, colour and what views said."""
        return chance(PairScores.shipped()(self))


def geometric_affinity(graph: SuperpointGraph) -> Floats:
    """What surface and colour alone say (E,)."""
    return chance(PairScores.shipped().of_surface(graph))


def chance(odds: Floats) -> Floats:
    """Probabilities of log odds."""
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)
