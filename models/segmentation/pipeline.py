# SPDX-License-Identifier: Apache-2.0
"""The segmenter that nodes, evaluation and tests call: a cloud and views in, instances out. No torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.geometry.cameras import RgbdFrame
from perception_models.segmentation.affinity import AffinityModel
from perception_models.segmentation.cut import cut
from perception_models.segmentation.evidence import Predictor, look
from perception_models.segmentation.frame_checks import fault_of
from perception_models.segmentation.graph import SuperpointGraph
from perception_models.segmentation.instances import Instances, as_instances, group_scores
from perception_models.segmentation.neighbours import Floats, estimate_normals, neighbour_edges
from perception_models.segmentation.online_settings import OnlineSettings
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.superpoints import Colors, superpoints
from perception_models.segmentation.thinning import Thinned
from perception_models.segmentation.visibility import contradiction, look_back, visible

CHECKS = OnlineSettings(max_depth=20.0)
CHECKED = 50_000  # points of the cloud that a view's pose is checked against


@dataclass(frozen=True)
class Parts:
    """A cloud as it is worked on: one point a voxel (M, 3) with super-points (M,), and their graph."""

    thinned: Thinned
    superpoints: npt.NDArray[np.int32]
    graph: SuperpointGraph


class Segmenter:
    """Finds instances in a cloud by its surface, its colours, and what a promptable model sees in views of it."""

    def __init__(
        self,
        predictor: Predictor | None = None,
        settings: SegmentationSettings | None = None,
        threads: int | None = None,
        affinity: AffinityModel | None = None,
    ) -> None:
        """Without a predictor geometry and colour decide alone, and views only tell where the cloud was seen from.

        affinity: a network that scores pairs; without it the fits of `PairScores` do.
        """
        self.affinity = affinity
        self.predictor = predictor
        self.settings = settings or SegmentationSettings()
        self.threads = threads or 1
        self.timing: dict[str, float] = {}

    @staticmethod
    def load(variant: str = "compact", backend: str = "auto", threads: int | None = None) -> Segmenter:
        """With the predictor of a variant. Raises as MaskPredictor.load."""
        from perception_models.segmentation.predictor import MaskPredictor

        return Segmenter(MaskPredictor.load(variant, backend, threads), threads=threads)

    def segment(
        self, points: npt.NDArray[np.floating], frames: Sequence[RgbdFrame] = (), colors: Colors | None = None
    ) -> Instances:
        """Instances of points (N, 3), world, metres, with colours (N, 3) uint8; where those are not given, views have
        them. A view that cannot be used is left out, and `skipped` says why.

        Without frames the cloud is taken as seen from the origin. Raises ValueError for points of another shape or that
        are not finite.
        """
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ValueError(f"points are (N, 3), finite, in metres; got {points.shape}")
        if not len(points):
            return as_instances(points, np.zeros(0, np.int32), np.zeros(0, np.float32), 1)
        began = time.perf_counter()
        faults = [self.fault(points, frame) for frame in frames]
        usable = [frame for frame, fault in zip(frames, faults, strict=True) if not fault]
        parts = self.prepare(points, usable, colors)
        prepared = time.perf_counter()
        for frame in usable if self.predictor is not None else ():
            self.gather(parts, frame)
        gathered = time.perf_counter()
        skipped = tuple(f"view {number}: {fault}" for number, fault in enumerate(faults) if fault)
        instances = self.divide(points, parts, skipped)
        done = time.perf_counter()
        spans = {"superpoints": prepared - began, "views": gathered - prepared, "cut": done - gathered}
        self.timing = {name: 1e3 * seconds for name, seconds in spans.items()}
        return instances

    def fault(self, points: Floats, frame: RgbdFrame) -> str:
        """Why a view of a cloud (N, 3) cannot be used; empty where it can."""
        some = points[:: 1 + len(points) // CHECKED]
        return fault_of(frame, CHECKS) or contradiction(visible(some, frame, self.settings), self.settings)

    def prepare(self, points: Floats, frames: Sequence[RgbdFrame], colors: Colors | None) -> Parts:
        """Thin a cloud, find its super-points and what their surfaces say of each other."""
        settings = self.settings
        thinned = Thinned.of(points, settings.voxel)
        viewpoints: npt.NDArray[np.floating] = np.zeros(3)
        shades = None if colors is None else np.rint(thinned.mean(colors)).astype(np.uint8)
        if frames:
            viewpoints, seen = look_back(thinned.points, frames, settings)
            shades = seen if shades is None else shades
        normals = estimate_normals(thinned.points, settings.normal_neighbours, viewpoints, self.threads)
        edges = neighbour_edges(thinned.points, settings.neighbours, settings.reach, self.threads)
        labels = superpoints(thinned.points, normals, shades, settings, edges)
        graph = SuperpointGraph(thinned.points, normals, shades, labels, settings, edges)
        return Parts(thinned, labels, graph)

    def gather(self, parts: Parts, frame: RgbdFrame) -> None:
        """Add what a view says to the graph. Raises ValueError without a predictor."""
        if self.predictor is None:
            raise ValueError("without a predictor views say nothing of instances: load one")
        parts.graph.add(look(frame, parts.thinned.points, parts.superpoints, self.predictor, self.settings))

    def divide(self, points: Floats, parts: Parts, skipped: tuple[str, ...] = ()) -> Instances:
        """Cut the graph and give every point (N, 3) of the whole cloud its instance."""
        graph = parts.graph
        affinity = self.affinity.affinity(graph) if self.affinity else graph.affinity
        groups = cut(len(graph), graph.edges, affinity, self.settings.threshold)
        scores = group_scores(groups, graph.nodes.size, graph.edges, affinity)
        labels = groups[parts.superpoints][parts.thinned.rows]
        return as_instances(points, labels, scores, self.settings.min_instance, skipped)
