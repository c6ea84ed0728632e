# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras without distortion, in the optical frame of REP-103: z forward, x right, y down.

Pixel (0, 0) is the centre of the first pixel, as in sensor_msgs/CameraInfo and OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class RgbdFrame:
    """One view: rgb (H, W, 3) uint8; depth (H, W) float32, metres along the optical axis, 0 where there is none, or
    None; camera_matrix (3, 3) float64 of both images; pose (4, 4) float64, camera -> world, or None where unknown."""

    rgb: NDArray[np.uint8]
    depth: Floats | None
    camera_matrix: Matrix
    pose: Matrix | None


def camera_matrix(focal_length: float, width: int, height: int) -> Matrix:
    """Matrix (3, 3) of a camera with square pixels (focal length in pixels) that looks through the image's centre."""
    return np.array([[focal_length, 0, (width - 1) / 2], [0, focal_length, (height - 1) / 2], [0, 0, 1]], np.float64)


def check_camera(matrix: Matrix) -> None:
    """Raise ValueError for what is not the matrix (3, 3) of a pinhole camera."""
    matrix = np.asarray(matrix)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ValueError(f"a camera matrix is (3, 3) with focal lengths above 0, got {matrix.tolist()}")


def resize_matrix(matrix: Matrix, factor: float) -> Matrix:
    """The matrix (3, 3) of the same camera after its image was resized by `factor` (2 is twice as wide)."""
    resized = matrix * factor
    resized[:2, 2] += (factor - 1) / 2  # the first pixel's centre is half a pixel from the image's corner
    resized[2] = matrix[2]
    return resized


def project(points: NDArray[np.floating], matrix: Matrix) -> NDArray[np.floating]:
    """Pixels (..., 2) x y of points (..., 3) in the camera's frame; NaN for points that are not in front of it."""
    depth = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
    pixels: NDArray[np.floating] = points[..., :2] / depth * matrix[[0, 1], [0, 1]] + matrix[:2, 2]
    return pixels


def rays(matrix: Matrix, width: int, height: int) -> Floats:
    """Directions (H, W, 3) float32 through the pixels, in the camera's frame, scaled so that z is 1."""
    x = (np.arange(width) - matrix[0, 2]) / matrix[0, 0]
    y = (np.arange(height) - matrix[1, 2]) / matrix[1, 1]
    directions = np.ones((height, width, 3), np.float32)
    directions[..., 0], directions[..., 1] = x, y[:, None]
    return directions


def unproject(depth: Floats, matrix: Matrix) -> Floats:
    """Points (H, W, 3) float32 in the camera's frame from a depth image (H, W) in metres; depth 0 gives the origin."""
    height, width = depth.shape
    return rays(matrix, width, height) * depth[..., None]


def frame_points(frame: RgbdFrame) -> Floats:
    """World points (N, 3) float32 of the pixels that have depth. Raises ValueError where depth or pose is missing."""
    if frame.depth is None or frame.pose is None:
        raise ValueError("a frame needs depth and pose to give world points")
    seen = unproject(frame.depth, frame.camera_matrix)[frame.depth > 0]
    return se3.apply(frame.pose, seen).astype(np.float32)
