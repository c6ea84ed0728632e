# SPDX-License-Identifier: Apache-2.0
"""The detector that nodes, evaluation and tests call: a cloud in, boxes out. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.detection.official_preprocess import OFFICIAL, prepare_official
from perception_models.detection.postprocess import Thresholds, select_boxes
from perception_models.detection.preprocess import NetworkInput, prepare
from perception_models.detection.settings import DetectionSettings
from perception_models.runtime import Engine, EngineInfo, load_engine

Floats = npt.NDArray[np.float32]
WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Detections:
    """boxes (K, 7) x y z l w h yaw in the cloud's frame (m, rad), scores (K,) 0 to 1, labels (K,) index into names;
    highest score first."""

    boxes: Floats
    scores: Floats
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]


class Detector:
    """3D boxes from one LiDAR scan. Get one with `Detector.load()`."""

    def __init__(self, engine: Engine, settings: DetectionSettings, thresholds: Thresholds) -> None:
        self.engine = engine
        self.settings = settings
        self.thresholds = thresholds
        self._prepare = _preparation(settings)
        self.timing: dict[str, float] = {}
        self.overflow = 0

    @staticmethod
    def load(
        variant: str = "compact",
        backend: str = "auto",
        threads: int | None = None,
        precision: str = "fp32",
        score_threshold: float | tuple[float, ...] = 0.5,
        nms_iou: float | tuple[float, ...] | None = None,
    ) -> Detector:
        """Load a variant's weights: a folder name under `weights/`, or a path to a folder with model.onnx and
        model.yaml.

        score_threshold and nms_iou: one for all classes or one a class; nms_iou is the bird's-eye overlap above which
        the
        lower score goes (the model's own if None).
        """
        named, folder = WEIGHTS / variant, Path(variant)
        weights = folder if folder.is_dir() and not named.is_dir() else named
        engine = load_engine(weights, backend=backend, precision=precision, threads=threads)
        settings = DetectionSettings.from_dict(engine.facts.settings)
        return Detector(engine, settings, Thresholds(score_threshold, nms_iou))

    @property
    def engine_info(self) -> EngineInfo:
        """Backend and precision that really run."""
        return self.engine.info

    def detect(self, points: Floats) -> Detections:
        """Detect in points (N, 4) float32 x y z intensity (m, sensor frame: x forward, y left, z up, origin at the
        sensor).

        Non-finite points are left out; an empty cloud gives no detections. Raises ValueError for another shape or type.
        """
        _check(points)
        began = time.perf_counter()
        network_input = self._prepare(points, self.engine.pads_to_capacity)
        self.overflow = network_input.overflow
        prepared = time.perf_counter()
        outputs = self.engine(**{name: network_input.tensors[name] for name in self.engine.facts.inputs})
        inferred = time.perf_counter()
        boxes, scores, labels = select_boxes(
            outputs["heatmap"], outputs["box"], outputs["iou"], self.settings, self.thresholds
        )
        done = time.perf_counter()
        self.timing = {
            "preprocess": 1e3 * (prepared - began),
            "inference": 1e3 * (inferred - prepared),
            "postprocess": 1e3 * (done - inferred),
        }
        return Detections(boxes, scores, labels, self.settings.classes)

    def close(self) -> None:
        """Free the engine; the detector cannot be used afterwards."""
        self.engine.close()


def _preparation(settings: DetectionSettings) -> Callable[[Floats, bool], NetworkInput]:
    if settings.official:
        official = OFFICIAL[settings.official]
        return lambda points, pad: prepare_official(points, official, pad)
    return lambda points, pad: prepare(points, settings, pad)


def _check(points: Floats) -> None:
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] != 4 or points.dtype != np.float32:
        got = f"{points.dtype} {points.shape}" if isinstance(points, np.ndarray) else type(points).__name__
        raise ValueError(f"points must be a float32 array (N, 4) of x y z intensity, got {got}")
