# SPDX-License-Identifier: Apache-2.0
"""The steps of which the map of key frames is made, and as what the segmenter for whole clouds does them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame
from perception_models.segmentation.cut import cut
from perception_models.segmentation.evidence import Evidence, Predictor, look
from perception_models.segmentation.graph import SuperpointGraph
from perception_models.segmentation.instances import group_scores
from perception_models.segmentation.neighbours import estimate_normals
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.superpoints import superpoints

Colors = NDArray[np.uint8]
Labels = NDArray[np.integer]
FEWEST = 5  # points of a super-point, however coarse the voxels


@dataclass(frozen=True)
class Surface:
    """points (N, 3) m, unit normals (N, 3), colors (N, 3), and the super-point (N,) of each, 0 .. S - 1."""

    points: Floats
    normals: Floats
    colors: Colors
    labels: Labels


class Parts(Protocol):
    """What the map leaves to others; tests give parts of their own."""

    @property
    def engine_info(self) -> Any:
        """Facts of the engines."""
        ...

    def normals(self, points: Floats, viewpoint: Matrix) -> Floats:
        """Unit normals (N, 3) of points (N, 3), towards a viewpoint (3,)."""
        ...

    def divide(self, points: Floats, normals: Floats, colors: Colors) -> Labels:
        """Super-points (N,) 0 .. S - 1 of points (N, 3)."""
        ...

    def look(self, frame: RgbdFrame, points: Floats, labels: NDArray[np.int32]) -> Evidence:
        """What a view says of the super-points (N,) of points (N, 3)."""
        ...

    def group(self, surface: Surface, evidence: Evidence) -> tuple[Labels, Floats]:
        """Instance (S,) of each super-point, 0 .. K - 1, given what all views said, and scores (K,), 0 to 1."""
        ...

    def mask(self, frame: RgbdFrame, pixel: Floats) -> NDArray[np.bool_]:
        """The thing (H, W) at a pixel (2,) x y of a view."""
        ...

    def close(self) -> None:
        """Gives back the engines."""
        ...


class PromptedPredictor(Predictor, Protocol):
    """A promptable 2D model that has engines; see MaskPredictor."""

    @property
    def engine_info(self) -> Any: ...
    def predict(self, points: Floats, labels: Labels) -> Any: ...
    def close(self) -> None: ...


class SegmenterParts:
    """The steps of `Segmenter`, with its settings brought to another size of voxel."""

    def __init__(
        self,
        predictor: PromptedPredictor,
        voxel: float,
        settings: SegmentationSettings | None = None,
        threads: int | None = None,
    ) -> None:
        self._predictor = predictor
        self._settings = at_voxel(settings or SegmentationSettings(), voxel)
        self._threads = threads or 1
        self._shown: RgbdFrame | None = None  # whose features the predictor holds

    @staticmethod
    def load(variant: str, backend: str, threads: int | None, voxel: float) -> SegmenterParts:
        """With the predictor of a variant. Raises as MaskPredictor.load."""
        from perception_models.segmentation.predictor import MaskPredictor

        return SegmenterParts(MaskPredictor.load(variant, backend, threads), voxel, threads=threads)

    @property
    def engine_info(self) -> Any:
        """Facts of the predictor's engines."""
        return self._predictor.engine_info

    def normals(self, points: Floats, viewpoint: Matrix) -> Floats:
        """See Parts."""
        return estimate_normals(points, self._settings.normal_neighbours, viewpoint, self._threads)

    def divide(self, points: Floats, normals: Floats, colors: Colors) -> Labels:
        """See Parts."""
        return superpoints(points, normals, colors, self._settings, threads=self._threads)

    def look(self, frame: RgbdFrame, points: Floats, labels: NDArray[np.int32]) -> Evidence:
        """See Parts."""
        self._shown = None
        return look(frame, points, labels, self._predictor, self._settings)

    def group(self, surface: Surface, evidence: Evidence) -> tuple[Labels, Floats]:
        """See Parts."""
        graph = SuperpointGraph(surface.points, surface.normals, surface.colors, surface.labels, self._settings)
        graph.add(evidence)
        affinity = graph.affinity
        groups = np.asarray(cut(len(graph), graph.edges, affinity, self._settings.threshold), np.int32)
        return groups, group_scores(groups, graph.nodes.size, graph.edges, affinity)

    def mask(self, frame: RgbdFrame, pixel: Floats) -> NDArray[np.bool_]:
        """See Parts."""
        if self._shown is not frame:
            self._predictor.set_image(frame.rgb, frame.depth)
            self._shown = frame
        found = self._predictor.predict(np.asarray(pixel, np.float32)[None], np.ones(1, np.int32))
        mask: NDArray[np.bool_] = found.masks[int(np.argmax(found.scores))]
        return mask

    def close(self) -> None:
        """Gives back the engines."""
        self._predictor.close()


def at_voxel(settings: SegmentationSettings, voxel: float) -> SegmentationSettings:
    """Settings for clouds of another voxel: parts may have fewer points where voxels are larger, though not by as much
    as surface has fewer, for what is left is as noisy."""
    share = settings.voxel / voxel
    least = {name: max(round(getattr(settings, name) * share), FEWEST) for name in ("min_points", "min_instance")}
    return replace(settings, voxel=voxel, **least)
