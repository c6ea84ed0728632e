# SPDX-License-Identifier: Apache-2.0
"""What the affinity network learns from: graphs that few views described, and what all views together say of them.

The labels are pseudo labels (SAM-guided Graph Cut, section 3.3): whether two super-points are one thing is taken from
2D masks alone. No instance of the simulated room plays a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.geometry.cameras import RgbdFrame, frame_points
from perception_models.segmentation.affinity_input import AffinityInput
from perception_models.segmentation.contacts import find_rows, pair_keys
from perception_models.segmentation.evidence import Evidence, Predictor, look
from perception_models.segmentation.graph import SuperpointGraph
from perception_models.segmentation.pipeline import Segmenter
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.thinning import Thinned
from perception_models.segmentation.visibility import visible

Rng = np.random.Generator
LEAST_VIEWS = 3  # that show both super-points of a pair, for a label
DOUBT = 0.25  # overlaps so near to a half say nothing


@dataclass(frozen=True)
class Sample:
    """Tensors of a graph as the network takes it; labels (S, D), 1 where both ends are one thing, and weights (S, D) of
    those labels, 0 where none is known."""

    tensors: dict[str, npt.NDArray[np.generic]]
    labels: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """A room's cloud with normals, colours and super-points, and what each view says of them."""

    points: npt.NDArray[np.float32]
    graph: SuperpointGraph
    evidence: Sequence[Evidence]

    @staticmethod
    def of(frames: Sequence[RgbdFrame], predictor: Predictor, settings: SegmentationSettings, voxel: float) -> Place:
        """Look at a place once from every frame."""
        points = Thinned.of(np.concatenate([frame_points(frame) for frame in frames]), voxel).points
        parts = Segmenter(None, settings).prepare(points, frames, None)
        cloud, labels = parts.thinned.points, parts.superpoints
        seen = [(frame, visible(cloud, frame, settings)) for frame in frames]
        evidence = [look(frame, cloud, labels, predictor, settings, projection) for frame, projection in seen]
        return Place(cloud, parts.graph, evidence)

    def sample(self, rng: Rng) -> Sample:
        """The graph as a random part of the views shows it, judged by all."""
        count = int(rng.integers(1, len(self.evidence) + 1))
        graph = self.graph.emptied()
        for number in rng.choice(len(self.evidence), count, replace=False):
            graph.add(self.evidence[number])
        labels, weights = self.pseudo_labels()
        prepared = AffinityInput.of(graph)
        shape = np.shape(prepared.tensors["mask"])
        known = prepared.slots >= 0
        table = np.zeros((2, shape[0] * shape[1]), np.float32)
        table[:, prepared.slots[known]] = np.stack([np.tile(labels, 2), np.tile(weights, 2)])[:, known]
        return Sample(prepared.tensors, table[0].reshape(shape), table[1].reshape(shape))

    def pseudo_labels(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Label (E,) of each edge, 0 or 1, and weight (E,): 0 where too few views show both ends or they disagree."""
        edges = self.graph.edges
        total, weight, views = np.zeros(len(edges)), np.zeros(len(edges)), np.zeros(len(edges))
        for evidence in self.evidence:
            rows = find_rows(edges, pair_keys(*evidence.pairs.T))
            known = rows >= 0
            total[rows[known]] += (evidence.overlap * evidence.weight)[known]
            weight[rows[known]] += evidence.weight[known]
            views[rows[known]] += 1
        overlap = total / np.maximum(weight, 1e-12)
        sure = (views >= LEAST_VIEWS) & (np.abs(overlap - 0.5) > DOUBT)
        smaller = np.minimum(*self.graph.nodes.size[edges].T)
        return (overlap > 0.5).astype(np.float32), np.where(sure, np.sqrt(smaller), 0).astype(np.float32)


def prior_loss(sample: Sample) -> float:
    """Cross entropy of the labels under the graph's own affinity, what the network must beat."""
    prior = np.asarray(sample.tensors["prior"], np.float64)
    loss = np.logaddexp(0, prior) - prior * sample.labels
    return float((loss * sample.weights).sum() / max(sample.weights.sum(), 1e-9))
