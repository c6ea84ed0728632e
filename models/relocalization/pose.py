# SPDX-License-Identifier: Apache-2.0
"""A camera's pose from matched pixels and map points: poselib's robust solver, covariance, coverage of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import poselib  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix, project
from perception_models.relocalization.features import Floats

MIN_MATCHES = 6
ITERATIONS = 1000


@dataclass(frozen=True)
class MatchedLines:
    """Segments of an image, pixels (M, 2, 2), and of the map, places (M, 2, 3), that may be parts of the same line;
    max_error: pixels that the former's ends may be off the latter."""

    pixels: Floats
    places: Floats
    max_error: float


@dataclass(frozen=True)
class PoseEstimate:
    """pose (4, 4), camera -> map; inliers (M,): which matches fit it."""

    pose: Matrix
    inliers: NDArray[np.bool_]


def estimate_pose(
    pixels: Floats,
    points: Floats,
    camera_matrix: Matrix,
    max_error: float,
    start: Matrix | None = None,
    lines: MatchedLines | None = None,
) -> PoseEstimate | None:
    """Pose from pixels (M, 2) and map points (M, 3), and lines beside them, outliers allowed; None where there is none.

    `start`, camera -> map, is tried as the first hypothesis.
    """
    if len(pixels) < MIN_MATCHES:
        return None
    focal_x, focal_y, x, y = camera_matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    camera = {"model": "PINHOLE", "width": -1, "height": -1, "params": [focal_x, focal_y, x, y]}
    ransac = {"max_reproj_error": max_error, "max_iterations": ITERATIONS, "min_iterations": 50}
    matches = [pixels, points]
    solve = poselib.estimate_absolute_pose
    if lines is not None and len(lines.pixels):
        matches += [lines.pixels[:, 0], lines.pixels[:, 1], lines.places[:, 0], lines.places[:, 1]]
        solve, ransac["max_epipolar_error"] = poselib.estimate_absolute_pose_pnpl, lines.max_error
    doubles = (part.astype(np.float64) for part in matches)
    found, facts = solve(*doubles, camera, ransac, {"loss_type": "CAUCHY"}, _hypothesis(start))
    inliers = np.array(facts["inliers"], bool)
    if inliers.sum() < MIN_MATCHES:
        return None
    return PoseEstimate(se3.inverse(se3.make(found.R, found.t)), inliers)


def _hypothesis(start: Matrix | None) -> poselib.CameraPose | None:
    """A pose, camera -> map, as poselib's, map -> camera."""
    if start is None:
        return None
    pose = poselib.CameraPose()
    pose.R, pose.t = se3.inverse(start)[:3, :3], se3.inverse(start)[:3, 3]
    return pose


def covariance(pixels: Floats, points: Floats, camera_matrix: Matrix, pose: Matrix) -> Matrix:
    """Covariance (6, 6) of a pose, camera -> map, from its inliers: translation (m), then rotation (rad) about the
    map's axes, by the linearised reprojection errors (M, 2)."""
    seen = np.asarray(se3.apply(se3.inverse(pose), points.astype(np.float64)), np.float64)
    error = np.asarray(project(seen, camera_matrix) - pixels, np.float64)
    jacobian = reprojection_jacobian(seen, camera_matrix) @ _camera_motion(seen, pose[:3, :3])
    normal = np.tensordot(jacobian, jacobian, ((0, 1), (0, 1)))
    variance = (error**2).sum() / max(error.size - 6, 1)
    return np.asarray(np.linalg.pinv(normal) * variance, np.float64)


def reprojection_jacobian(seen: Matrix, camera_matrix: Matrix) -> Matrix:
    """Derivatives (M, 2, 3) of pixels by points (M, 3) in the camera's frame."""
    x, y, z = seen.T
    focal_x, focal_y = camera_matrix[0, 0], camera_matrix[1, 1]
    zero = np.zeros_like(z)
    rows = [[focal_x / z, zero, -focal_x * x / z**2], [zero, focal_y / z, -focal_y * y / z**2]]
    return np.moveaxis(np.array(rows), -1, 0)


def _camera_motion(seen: Matrix, rotation: Matrix) -> Matrix:
    """Derivatives (M, 3, 6) of points in the camera's frame by the camera's place and rotation in the map's axes."""
    motion = np.empty((len(seen), 3, 6))
    motion[:, :, :3] = -rotation.T
    x, y, z = seen.T
    zero = np.zeros_like(x)
    cross = np.moveaxis(np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]), -1, 0)
    motion[:, :, 3:] = cross @ rotation.T
    return motion


def spread(pixels: Floats, width: int, height: int) -> float:
    """How much of an image pixels (M, 2) cover, 0 to 1: the share of 8 x 6 cells that hold one."""
    cells = np.unique(np.floor(pixels / [width / 8, height / 6]).astype(int), axis=0)
    return len(cells) / 48
