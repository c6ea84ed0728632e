# SPDX-License-Identifier: Apache-2.0
"""RootSIFT (Lowe, IJCV 2004; Arandjelovic and Zisserman, CVPR 2012) by OpenCV: the features that need no weights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.relocalization.features import Features, Floats, Image, check_image, unit
from perception_models.runtime import EngineInfo

DIMENSIONS = 128
DENSE_DIAMETER = 12.0  # of key points asked for at given pixels: a patch of about 70 pixels


@dataclass(frozen=True)
class SiftAnywhere:
    """Upright RootSIFT descriptors of a grey image (H, W), computed where they are asked for."""

    grey: NDArray[np.uint8]

    def sample(self, points: Floats) -> Floats:
        """Unit descriptors (..., 128) at pixels (..., 2); zero where a patch has no gradient."""
        places = points.reshape(-1, 2)
        key_points = [cv2.KeyPoint(float(x), float(y), DENSE_DIAMETER, 0, 1, 0, i) for i, (x, y) in enumerate(places)]
        descriptors = np.zeros((len(places), DIMENSIONS), np.float32)
        found, values = cv2.SIFT.create().compute(self.grey, key_points)
        if values is not None:
            descriptors[[point.class_id for point in found]] = root(np.asarray(values, np.float32))
        return descriptors.reshape(*points.shape[:-1], DIMENSIONS)


class RootSift:
    """At most `count` RootSIFT key points an image."""

    name = "rootsift"
    dimensions = DIMENSIONS
    engine_info = EngineInfo(backend="opencv", precision="fp32", provider="CPU", build_seconds=0.0, cache="none")

    def __init__(self, count: int = 1024) -> None:
        self._sift = cv2.SIFT.create(nfeatures=count, contrastThreshold=0.02)
        self._count = count

    def extract(self, rgb: Image) -> Features:
        """Key points of an image (H, W, 3) uint8 RGB."""
        check_image(rgb)
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        found, values = self._sift.detectAndCompute(grey, None)
        scores = np.array([point.response for point in found], np.float32)
        best = np.argsort(-scores, kind="stable")[: self._count]
        points = np.array([found[i].pt for i in best], np.float32).reshape(-1, 2)
        descriptors = root(np.asarray(values, np.float32)[best]) if len(best) else np.empty((0, DIMENSIONS), np.float32)
        return Features(points, scores[best], descriptors, SiftAnywhere(grey))

    def close(self) -> None:
        """Nothing is held."""


def root(descriptors: Floats) -> Floats:
    """The Hellinger form (N, 128) of SIFT descriptors: roots of their shares, of unit length."""
    shares = descriptors / np.maximum(descriptors.sum(-1, keepdims=True), 1e-12)
    return unit(np.sqrt(shares))
