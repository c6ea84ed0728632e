# SPDX-License-Identifier: Apache-2.0
"""A structured-light RGB-D camera: its optics, and what its depth sensor makes of the true depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import cameras

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Rng = np.random.Generator


@dataclass(frozen=True)
class RgbdCamera:
    """Image size and focal length in pixels; range in metres. `noise` scales what is random in depth (0: exact and
    without holes). `distortion` is the share of depth by which each `unit` is wrong, in a smooth pattern of its own."""

    width: int = 640
    height: int = 480
    focal_length: float = 585.0
    min_depth: float = 0.4
    max_depth: float = 4.5
    noise: float = 1.0
    distortion: float = 0.012
    unit: int = 0

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
        return replace(self, width=width, height=height, focal_length=self.focal_length * factor)


KINECT = RgbdCamera()
# Error of a Kinect along the axis [m]: 1.2 mm at 0.4 m, growing with the square (Nguyen et al., 3DIMPVT 2012, sec. 3).
NOISE, GROWTH = 0.0012, 0.0019
BASELINE = 0.075  # m, from camera to projector
STEP = 1 / 8  # pixels of disparity that the sensor tells apart, at 640 pixels a row
STEPS = BASELINE * KINECT.focal_length / STEP  # disparity in steps, times depth in m


def depth_noise(depth: F32) -> F32:
    """Standard deviation [m] of the random error at a depth [m]."""
    return np.asarray(NOISE + GROWTH * (depth - 0.4) ** 2, np.float32)


def sense_depth(true_depth: F32, cosine: F32, swallowed: Bools, camera: RgbdCamera, rng: Rng) -> F32:
    """Depth (H, W) as measured, 0 where nothing is. `true_depth` (H, W) is 0 where nothing was hit; `cosine` (H, W) of
    the angle of incidence; `swallowed` (H, W) where the surface is dark or a mirror."""
    if camera.noise == 0:
        return _in_range(true_depth, camera)
    known = np.where(true_depth > 0, true_depth, np.float32(100))
    depth = _frayed(known, camera, rng) * (1 + _unit_error(camera))
    depth = depth + camera.noise * depth_noise(depth) * _grain(rng, camera)
    depth = (STEPS / np.maximum(np.rint(STEPS / np.maximum(depth, 0.1)), 1)).astype(np.float32)
    lost = _weak(known, cosine, swallowed, camera, rng) | unlit(known, camera)
    return _in_range(np.where(lost, np.float32(0), depth), camera)


def unlit(depth: F32, camera: RgbdCamera) -> Bools:
    """Where (H, W) the pattern does not fall, because the projector, a baseline to the left, sees something nearer:
    seen from there, pixels must keep their order."""
    seen_at = np.arange(camera.width, dtype=np.float32) + np.float32(BASELINE * camera.focal_length) / depth
    return np.asarray(np.maximum.accumulate(seen_at, axis=1) > seen_at + 0.5)


def _in_range(depth: F32, camera: RgbdCamera) -> F32:
    inside = (depth >= camera.min_depth) & (depth <= camera.max_depth)
    return np.where(inside, depth, np.float32(0))


def _weak(depth: F32, cosine: F32, swallowed: Bools, camera: RgbdCamera, rng: Rng) -> Bools:
    """Where (H, W) too little light returns: grazing or far, mirrors and dark surfaces, and specks of dirt."""
    patches = _smooth(rng, depth.shape, camera.width / 40)
    returned = np.where(swallowed, np.float32(0.012), cosine) / np.maximum(depth, 1) ** 2
    weak = returned < 0.012 * np.exp2(camera.noise * patches)
    return np.asarray(weak | (patches > 3.2))


def _unit_error(camera: RgbdCamera) -> F32:
    """The share (H, W) of depth by which this unit is wrong, alike over a quarter of the image."""
    rng = np.random.default_rng(camera.unit)
    return camera.distortion * _smooth(rng, (camera.height, camera.width), camera.width / 4)


def _frayed(depth: F32, camera: RgbdCamera, rng: Rng) -> F32:
    """Depth taken from a pixel beside the right one: block matching displaces edges."""
    sway = camera.noise * 1.2 * camera.width / KINECT.width
    columns, rows = (
        axis + sway * _smooth(rng, depth.shape, max(1, 4 * camera.width / KINECT.width))
        for axis in np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (camera.width, camera.height)))
    )
    nearest = cv2.remap(depth, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(nearest, np.float32)


def _grain(rng: Rng, camera: RgbdCamera) -> F32:
    """Noise (H, W) of unit variance, in part shared by neighbours, as the windows of block matching overlap."""
    shape = (camera.height, camera.width)
    window = _smooth(rng, shape, max(2, camera.width / 80))
    return np.asarray((0.5 * rng.standard_normal(shape, np.float32) + window) / np.sqrt(0.25 + WAVE**2), np.float32)


WAVE = 0.85  # standard deviation of _smooth: between its random points, cubic interpolation averages


def _smooth(rng: Rng, shape: tuple[int, ...], size: float) -> F32:
    """Noise (H, W) of standard deviation WAVE that is alike over `size` pixels."""
    small = (max(2, int(shape[0] / size) + 1), max(2, int(shape[1] / size) + 1))
    coarse = rng.standard_normal(small, np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)
