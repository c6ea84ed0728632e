# SPDX-License-Identifier: Apache-2.0
"""Key points of an image and which of them show the same: RootSIFT (Lowe, IJCV 2004; Arandjelovic and Zisserman, CVPR
2012) by OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix
from perception_models.reconstruction.view import Rgb

Indices = NDArray[np.int64]
CONTRAST = 0.01  # below SIFT's usual 0.04, so that plain walls have key points too
RATIO = 0.8  # distance to the best as a share of that to the second best, above which neither is meant


@dataclass(frozen=True)
class Features:
    """Key points as directions (N, 2), x / z and y / z in the camera's frame, and unit descriptors (N, 128)."""

    rays: Matrix
    descriptors: Floats

    def __len__(self) -> int:
        return len(self.rays)


class Extractor:
    """At most `count` key points an image."""

    def __init__(self, count: int) -> None:
        self._sift = cv2.SIFT.create(nfeatures=count, contrastThreshold=CONTRAST)
        self._count = count

    def __call__(self, rgb: Rgb, camera_matrix: Matrix) -> Features:
        """Of an image (H, W, 3) whose camera has a matrix (3, 3)."""
        found, values = self._sift.detectAndCompute(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), None)
        if values is None:
            return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
        pixels = np.array([point.pt for point in found[: self._count]], np.float64)
        rays = (pixels - camera_matrix[:2, 2]) / camera_matrix[[0, 1], [0, 1]]
        return Features(rays, _root(np.asarray(values[: self._count], np.float32)))


def _root(descriptors: Floats) -> Floats:
    """Roots of their shares: their Euclidean distance is the Hellinger distance of the histograms."""
    return np.asarray(np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)), np.float32)


def matches(one: Features, other: Features) -> tuple[Indices, Indices]:
    """Pairs of indices that are each other's nearest by descriptor, and clearly nearer than the second nearest."""
    nothing = np.zeros(0, np.int64)
    if len(one) < 2 or len(other) < 2:
        return nothing, nothing
    alike, mine = one.descriptors @ other.descriptors.T, np.arange(len(one))
    best = alike.argmax(axis=1)
    mutual = alike.argmax(axis=0)[best] == mine
    first = alike[mine, best]
    alike[mine, best] = -1
    clear = 1 - first < RATIO**2 * (1 - alike.max(axis=1))  # squared distances of unit vectors are 2 - 2 * product
    chosen = np.flatnonzero(mutual & clear)
    return chosen, best[chosen]
