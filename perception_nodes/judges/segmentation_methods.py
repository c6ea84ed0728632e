# SPDX-License-Identifier: Apache-2.0
"""Steps from super-points to instances, each measured without the ones that follow it, and pictures of the outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from perception_models.evaluation.instances import SceneLabels
from perception_models.geometry.cameras import RgbdFrame
from perception_models.segmentation.affinity import AffinityModel
from perception_models.segmentation.cut import cut
from perception_models.segmentation.graph import SuperpointGraph, geometric_affinity
from perception_models.segmentation.instances import Instances, as_instances, group_scores
from perception_models.segmentation.pipeline import Parts, Segmenter
from perception_models.segmentation.prompts import label_image
from perception_models.segmentation.visibility import visible
from perception_nodes.judges.segmentation_scenes import Scene

Labels = NDArray[np.int32]
Affinity = Callable[[SuperpointGraph], NDArray[np.float32]]


@dataclass(frozen=True)
class Method:
    """How likely pairs are of one thing, and how groups come of that; without affinity super-points are instances."""

    affinity: Affinity | None
    group: Callable[[SuperpointGraph, NDArray[np.float32]], Labels]

    def divide(self, scene: Scene, parts: Parts) -> tuple[Instances, float]:
        """Instances of a scene, and the seconds that the step took."""
        began = time.perf_counter()
        graph = parts.graph
        affinity = self.affinity(graph) if self.affinity else np.zeros(len(graph.edges), np.float32)
        groups = self.group(graph, affinity)
        scores = group_scores(groups, graph.nodes.size, graph.edges, affinity)
        labels = groups[parts.superpoints][parts.thinned.rows]
        found = as_instances(scene.points, labels, scores, graph.settings.min_instance)
        return found, time.perf_counter() - began


def _alone(graph: SuperpointGraph, affinity: NDArray[np.float32]) -> Labels:
    return np.arange(len(graph), dtype=np.int32)


def _threshold(graph: SuperpointGraph, affinity: NDArray[np.float32]) -> Labels:
    """What edges above the threshold connect is one."""
    one, other = graph.edges[affinity > graph.settings.threshold].T
    links = coo_array((np.ones(len(one)), (one, other)), shape=(len(graph), len(graph)))
    return np.asarray(connected_components(links, directed=False)[1], np.int32)


def _cut(graph: SuperpointGraph, affinity: NDArray[np.float32]) -> Labels:
    return cut(len(graph), graph.edges, affinity, graph.settings.threshold)


def methods(network: AffinityModel | None = None) -> dict[str, Method]:
    """All of them; those of the affinity network only where it is there."""
    if network is None:
        return METHODS
    return {
        **METHODS,
        "network, threshold": Method(network.affinity, _threshold),
        "network, cut": Method(network.affinity, _cut),
    }


METHODS = {
    "super-points": Method(None, _alone),
    "geometry, threshold": Method(geometric_affinity, _threshold),
    "geometry, cut": Method(geometric_affinity, _cut),
    "masks, threshold": Method(lambda graph: graph.agreement, _threshold),
    "masks + geometry, threshold": Method(lambda graph: graph.affinity, _threshold),
    "masks + geometry, cut": Method(lambda graph: graph.affinity, _cut),
}


def gathered(scene: Scene, segmenter: Segmenter) -> tuple[Parts, dict[str, float]]:
    """Super-points of a scene and what its views say of them, with the seconds of both steps."""
    began = time.perf_counter()
    parts = segmenter.prepare(scene.points, scene.frames, scene.colors)
    prepared = time.perf_counter()
    for frame in scene.frames if segmenter.predictor is not None else ():
        segmenter.gather(parts, frame)
    return parts, {"superpoints_s": prepared - began, "views_s": time.perf_counter() - prepared}


def judged(scene: Scene, found: Instances) -> SceneLabels:
    """What was found beside what is true."""
    return SceneLabels(found.labels, found.scores, scene.truth)


def picture(scene: Scene, found: Instances, segmenter: Segmenter) -> bytes:
    """PNG of the frame with most true instances: as it is, with the truth, with what was found."""
    counts = [len(np.unique(instances)) for instances in scene.instances]
    number = int(np.argmax(counts))
    frame = scene.frames[number]
    seen = visible(scene.points, frame, segmenter.settings)
    labels = label_image(seen, found.labels, frame, segmenter.settings)
    labels = np.kron(labels, np.ones((segmenter.settings.stride,) * 2, np.int32))
    truth = np.where(scene.instances[number] > 0, scene.instances[number], -1)
    panels = [frame.rgb, _painted(frame, truth), _painted(frame, labels)]
    buffer = BytesIO()
    Image.fromarray(np.hstack(panels)).resize((1440, 360)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _painted(frame: RgbdFrame, labels: Labels) -> NDArray[np.uint8]:
    """The grey image with a colour over each label; -1 stays grey."""
    grey = frame.rgb.mean(axis=2, keepdims=True).repeat(3, axis=2)
    palette = np.random.default_rng(4).uniform(30, 255, (512, 3))
    labels = labels[: grey.shape[0], : grey.shape[1]]
    painted = np.where(labels[..., None] >= 0, 0.35 * grey + 0.65 * palette[labels % 512], grey)
    return np.asarray(painted, np.uint8)
