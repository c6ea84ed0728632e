# SPDX-License-Identifier: Apache-2.0
"""What the scores of pairs are learnt from: graphs that few views described, and which super-points are one thing.

Which thing a super-point is of comes from 2D masks (SAM-guided Graph Cut, section 3.3): the instance images that the
simulator renders with each view vote for it. No labelled cloud plays a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.geometry.cameras import RgbdFrame, frame_points
from perception_models.segmentation.affinity_input import SLOTS, AffinityInput
from perception_models.segmentation.evidence import Evidence, Predictor, look
from perception_models.segmentation.graph import SuperpointGraph
from perception_models.segmentation.pair_scores import PairScores
from perception_models.segmentation.pipeline import Segmenter
from perception_models.segmentation.prompts import label_image
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.visibility import visible

Rng = np.random.Generator
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer]
View = tuple[RgbdFrame, npt.NDArray[np.int32]]  # with the instance (H, W) of each pixel
PURE = 0.7  # least share of a super-point's pixels that are of one thing


@dataclass(frozen=True)
class Sample:
    """Tensors of a graph as the network takes it; labels (S, D), 1 where both ends are one thing, and weights (S, D) of
    those labels, 0 where none is known."""

    tensors: dict[str, npt.NDArray[np.generic]]
    labels: Floats
    weights: Floats


@dataclass(frozen=True)
class Place:
    """A cloud's super-points, what each view says of them, and the thing (S,) that each is of, -1 where unknown."""

    graph: SuperpointGraph
    evidence: Sequence[Evidence]
    things: Labels

    @staticmethod
    def of(views: Sequence[View], predictor: Predictor, settings: SegmentationSettings, voxel: float) -> Place:
        """Look at a place once from every view; `voxel` m of its cloud hold one point."""
        frames = [frame for frame, _ in views]
        points = np.concatenate([frame_points(frame) for frame in frames])
        points = points[np.unique(np.floor(points / voxel), axis=0, return_index=True)[1]]
        parts = Segmenter(None, settings).prepare(points, frames, None)
        cloud, labels = parts.thinned.points, parts.superpoints
        votes = np.zeros((len(parts.graph), 1 + max(int(instances.max()) for _, instances in views)))
        evidence = []
        for frame, instances in views:
            projection = visible(cloud, frame, settings)
            vote(votes, label_image(projection, labels, frame, settings), instances, settings.stride)
            evidence.append(look(frame, cloud, labels, predictor, settings, projection))
        return Place(parts.graph, evidence, elected(votes))

    def labels(self) -> tuple[Floats, Floats]:
        """Label (E,) of each edge, 0 or 1, and weight (E,), 0 where the thing of an end is not known."""
        one, other = self.things[self.graph.edges].T
        smaller = np.minimum(*self.graph.nodes.size[self.graph.edges].T)
        weights = np.where((one >= 0) & (other >= 0), np.sqrt(smaller), 0)
        return (one == other).astype(np.float32), weights.astype(np.float32)

    def shown(self, evidence: Sequence[Evidence]) -> SuperpointGraph:
        """The graph as some of the views show it."""
        graph = self.graph.emptied()
        for one in evidence:
            graph.add(one)
        return graph

    def sample(self, rng: Rng, scores: PairScores) -> Sample:
        """The graph as a random part of the views shows it, as the network takes it."""
        labels, weights = self.labels()
        count = int(rng.integers(1, len(self.evidence) + 1))
        some = rng.choice(len(self.evidence), count, replace=False)
        prepared = AffinityInput.of(self.shown([self.evidence[number] for number in some]), SLOTS, scores)
        shape = np.shape(prepared.tensors["mask"])
        known = prepared.slots >= 0
        table = np.zeros((2, shape[0] * shape[1]), np.float32)
        table[:, prepared.slots[known]] = np.stack([np.tile(labels, 2), np.tile(weights, 2)])[:, known]
        return Sample(prepared.tensors, table[0].reshape(shape), table[1].reshape(shape))


def vote(votes: npt.NDArray[np.float64], image: Labels, instances: Labels, stride: int) -> None:
    """Add to votes (S, T) what each pixel of a super-point, in an image (h, w) of every `stride`-th, is of."""
    true = instances[stride // 2 :: stride, stride // 2 :: stride]
    np.add.at(votes, (image[image >= 0], true[image >= 0]), 1)


def elected(votes: npt.NDArray[np.float64]) -> Labels:
    """The thing (S,) with most of the votes (S, T), -1 where that is not enough of them."""
    sure = votes.max(axis=1) > PURE * np.maximum(votes.sum(axis=1), 1)
    return np.where(sure, votes.argmax(axis=1), -1)


def prior_loss(sample: Sample) -> float:
    """Cross entropy of the labels under the pair scores, what the network must beat."""
    prior = np.asarray(sample.tensors["prior"], np.float64)
    loss = np.logaddexp(0, prior) - prior * sample.labels
    return float((loss * sample.weights).sum() / max(sample.weights.sum(), 1e-9))
