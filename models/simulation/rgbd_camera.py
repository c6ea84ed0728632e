# SPDX-License-Identifier: Apache-2.0
"""A structured-light RGB-D camera: its optics, and what its depth sensor makes of the true depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import cameras

F32 = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class RgbdCamera:
    """Image size and focal length in pixels; range in metres; `noise` scales every error of the depth sensor."""

    width: int = 640
    height: int = 480
    focal_length: float = 585.0
    min_depth: float = 0.4
    max_depth: float = 4.5
    noise: float = 1.0

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Camera matrix (3, 3)."""
        return cameras.camera_matrix(self.focal_length, self.width, self.height)

    def rays(self) -> F32:
        """Directions (H * W, 3) in the optical frame, z = 1."""
        return cameras.rays(self.matrix, self.width, self.height).reshape(-1, 3)

    def scaled(self, factor: float) -> RgbdCamera:
        """The same view with fewer or more pixels."""
        width, height = round(self.width * factor), round(self.height * factor)
        return RgbdCamera(width, height, self.focal_length * factor, self.min_depth, self.max_depth, self.noise)


KINECT = RgbdCamera()
# Error of a Kinect along the axis [m]: 1.2 mm at 0.4 m, growing with the square (Khoshelham and Elberink, 2012).
NOISE, GROWTH = 0.0012, 0.0019
BASELINE = 0.075  # m, between projector and camera
STEP = 1 / 8  # pixels of disparity that the sensor tells apart, at 640 pixels a row


def sense_depth(true_depth: F32, cosine: F32, swallowed: NDArray[np.bool_], camera: RgbdCamera, rng: Rng) -> F32:
    """Depth (H, W) as measured, 0 where nothing is. `cosine` (H, W) of the angle of incidence; `swallowed` (H, W)
    where the surface is dark or a mirror."""
    if camera.noise == 0:
        return np.where((true_depth > camera.min_depth) & (true_depth < camera.max_depth), true_depth, 0)
    scale = camera.noise
    sigma = NOISE + GROWTH * (true_depth - 0.4) ** 2
    wobble = _smooth(rng, true_depth.shape, camera.width / 80)  # errors of neighbours are alike
    bend = 1 + 0.004 * scale * _smooth(rng, true_depth.shape, camera.width / 4)
    shifted = _nudged(true_depth, scale * camera.width / 640, rng)
    depth = shifted * bend + scale * sigma * (0.5 * rng.standard_normal(true_depth.shape, np.float32) + 0.9 * wobble)
    disparity = BASELINE * KINECT.focal_length / np.maximum(depth, 0.1)
    depth = BASELINE * KINECT.focal_length / (np.round(disparity / STEP) * STEP)
    lost = _lost(true_depth, cosine, swallowed, camera, rng)
    return np.asarray(np.where(lost, 0, depth), np.float32)


def _smooth(rng: Rng, shape: tuple[int, ...], size: float) -> F32:
    """Noise of unit variance that is alike over `size` pixels."""
    small = (max(2, int(shape[0] / size) + 1), max(2, int(shape[1] / size) + 1))
    coarse = rng.standard_normal(small, np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _nudged(depth: F32, amount: float, rng: Rng) -> F32:
    """Depth taken from a pixel beside the right one: block matching displaces edges."""
    rows, columns = np.indices(depth.shape)
    offset = amount * 1.5
    rows = np.clip(np.rint(rows + offset * _smooth(rng, depth.shape, 6)), 0, depth.shape[0] - 1).astype(np.int64)
    columns = np.clip(np.rint(columns + offset * _smooth(rng, depth.shape, 6)), 0, depth.shape[1] - 1).astype(np.int64)
    return depth[rows, columns]


def _lost(
    true_depth: F32, cosine: F32, swallowed: NDArray[np.bool_], camera: RgbdCamera, rng: Rng
) -> NDArray[np.bool_]:
    """Pixels without depth: out of range, grazing, dark or mirrors, behind an edge as seen from the projector."""
    out = (true_depth < camera.min_depth) | (true_depth > camera.max_depth)
    grazing = cosine < 0.12 + 0.08 * _smooth(rng, true_depth.shape, 12)
    shiny = swallowed & (_smooth(rng, true_depth.shape, 10) > -0.2)
    near = np.where(true_depth > 0, true_depth, camera.max_depth)
    shadow_width = BASELINE * camera.focal_length * (1 / np.maximum(np.roll(near, 1, axis=1), 0.2) - 1 / near)
    edge = np.zeros(true_depth.shape, np.uint8)
    edge[shadow_width > 1.0] = 1
    widened = cv2.dilate(edge, np.ones((1, 1 + 2 * max(1, round(camera.width / 160))), np.uint8)) > 0
    patches = _smooth(rng, true_depth.shape, camera.width / 25) > 2.3
    return np.asarray(out | grazing | shiny | widened | patches)
