# SPDX-License-Identifier: Apache-2.0
"""SuperPoint key points by the project's engine, for those who may use its weights and imported them. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from perception_models.geometry.maps import bilinear
from perception_models.relocalization.features import Features, Floats, Image, check_image, unit
from perception_models.runtime import Engine, load_engine

CELL = 8
MIN_HEAT = 0.005
NEIGHBOURHOOD = np.ones((7, 7), np.uint8)
BORDER = 4  # pixels in which the network sees mostly its own padding


@dataclass(frozen=True)
class SuperPointMap:
    """SuperPoint's descriptor map (256, H/8, W/8), unit length at each place."""

    values: Floats

    def sample(self, points: Floats) -> Floats:
        """Unit descriptors (..., 256) at pixels (..., 2)."""
        return unit(bilinear(self.values, (points + np.float32(0.5)) * np.float32(1 / CELL) - np.float32(0.5)))


class SuperPointFeatures:
    """At most `count` SuperPoint key points an image, from a folder that `import_weights` wrote."""

    name = "superpoint"
    dimensions = 256

    def __init__(self, engine: Engine, count: int = 1024) -> None:
        self.engine = engine
        self.count = count

    @staticmethod
    def load(folder: Path, count: int = 1024, threads: int | None = None) -> SuperPointFeatures:
        """Load imported weights. Raises BadWeights where the folder holds none."""
        return SuperPointFeatures(load_engine(folder, precision="fp32", threads=threads), count)

    def extract(self, rgb: Image) -> Features:
        """Key points of an image (H, W, 3) uint8 RGB, whole pixels; what H and W exceed a multiple of 8 is cut off."""
        check_image(rgb)
        height, width = (side // CELL * CELL for side in rgb.shape[:2])
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:height, :width], np.float32) / 255
        outputs = self.engine(image=grey[None, None])
        heat, dense = outputs["heat"][0, 0], SuperPointMap(_unit_channels(outputs["descriptors"][0]))
        points = _peaks(heat)
        scores = heat[points[:, 1], points[:, 0]]
        best = np.argsort(-scores, kind="stable")[: self.count]
        chosen = points[best].astype(np.float32)
        return Features(chosen, scores[best], dense.sample(chosen), dense)


def _unit_channels(maps: Floats) -> Floats:
    """Maps (C, H, W) scaled to unit length over C at each place."""
    scaled: Floats = np.moveaxis(unit(np.moveaxis(maps, 0, -1)), -1, 0)
    return scaled


def _peaks(heat: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Pixels (N, 2) x y that are the largest within three pixels, away from the image's border."""
    peaks = (heat > MIN_HEAT) & (heat >= cv2.dilate(heat, NEIGHBOURHOOD))
    inside = np.zeros_like(peaks)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.argwhere(peaks & inside)[:, ::-1]
