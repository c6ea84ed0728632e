# SPDX-License-Identifier: Apache-2.0
"""The network's depth with poses from image features: what it says of each image alone is put into one world."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, Matrix, resize_matrix
from perception_models.reconstruction.backend import Answer
from perception_models.reconstruction.depth_correction import corrected
from perception_models.reconstruction.features import Extractor
from perception_models.reconstruction.focal import estimate_camera
from perception_models.reconstruction.input import NetworkInput
from perception_models.reconstruction.visual_odometry import VisualOdometry

FACTOR = 2  # features are found in an image so many times as wide as the network's
FEATURES = 600  # an image
EDGE = 1.15  # ratio of depths within a pixel's neighbours, from which on it lies on an edge


class FeaturePoses:
    """Images with the network's answers, one after the other; the world is the frame of the first camera, its size what
    the network said of the first images."""

    def __init__(self, focal: float) -> None:
        """focal: the network's, pixels."""
        self._extract = Extractor(FEATURES)
        self._odometry = VisualOdometry(FACTOR * focal)

    def begin(self, image: NetworkInput, answer: Answer) -> Answer:
        """The answer to the first image of a new world; everything before it is forgotten."""
        self._odometry.forget()
        first = self.place(image, answer)
        assert first is not None
        return first

    def place(self, image: NetworkInput, answer: Answer) -> Answer | None:
        """The answer with pose, depth and points as features tell; None where they do not."""
        matrix = image.camera_matrix
        if matrix is None:
            matrix = estimate_camera(answer.points_self, answer.confidence_self, image.mask & (answer.depth > 0))
        features = self._extract(image.enlarged(FACTOR), resize_matrix(matrix, FACTOR))
        found = self._odometry.track(features, depths_at(features.rays, answer.depth, matrix))
        if found is None:
            return None
        depth = corrected(answer.depth, found.rays, found.given, found.depths, matrix)
        grown = np.where(answer.depth > 0, depth / np.maximum(answer.depth, 1e-6), np.float32(found.scale))
        own = answer.points_self * grown[..., None].astype(np.float32)
        return replace(
            answer,
            points_self=own,
            points=se3.apply(found.pose, own),
            confidence=answer.confidence_self,
            pose=found.pose,
        )


def depths_at(rays: Matrix, depth: Floats, camera_matrix: Matrix) -> Matrix:
    """Depth (N,) in directions (N, 2), x / z and y / z, of a depth map (H, W) of a camera with a matrix (3, 3); 0
    outside of it, and at edges, where it is the depth of neither side."""
    pixels = (rays * camera_matrix[[0, 1], [0, 1]] + camera_matrix[:2, 2]).astype(np.float32)
    if not len(pixels):
        return np.zeros(0)
    nearest, farthest = cv2.erode(depth, np.ones((3, 3))), cv2.dilate(depth, np.ones((3, 3)))
    smooth = np.where(farthest < EDGE * nearest, np.float32(1), np.float32(0))
    values, sure = (
        cv2.remap(part, pixels[:, None, 0], pixels[:, None, 1], how, borderMode=cv2.BORDER_CONSTANT)[:, 0]
        for part, how in ((depth, cv2.INTER_LINEAR), (smooth, cv2.INTER_NEAREST))
    )
    return np.asarray(np.where(sure > 0, values, 0), np.float64)
