# SPDX-License-Identifier: Apache-2.0
"""How far found poses are from a reference, which images are map and which are queries, a reference without drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import small_gicp
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, Matrix

NEAR_CM, NEAR_DEG = 5.0, 5.0
WRONG_CM, WRONG_DEG = 10.0, 10.0
VOXEL = 0.02
NEIGHBOURS = 12
REACH = (0.10, 0.04)  # metres that a point may be from its plane, step after step


@dataclass(frozen=True)
class Split:
    """Indices of the frames that make the map, and of those that are looked for."""

    name: str
    map: list[int]
    queries: list[int]


SPLITS: Mapping[str, Callable[[int], NDArray[np.bool_]]] = {
    # Which of n frames are queries.
    "interleaved": lambda n: np.arange(n) % 5 == 4,
    "last 40 %": lambda n: np.arange(n) >= int(0.6 * n),
    "first 40 %": lambda n: np.arange(n) < int(0.4 * n),
    "blocks of 40": lambda n: np.arange(n) // 40 % 2 == 1,
}


def split(name: str, count: int) -> Split:
    """A split of `count` frames, one of SPLITS. Raises ValueError for another name, or too few frames for it."""
    if name not in SPLITS:
        raise ValueError(f"split '{name}' is unknown; known are {', '.join(SPLITS)}")
    asked = SPLITS[name](count)
    if asked.all() or not asked.any():
        raise ValueError(f"{count} frames are too few for the split '{name}'")
    return Split(name, np.flatnonzero(~asked).tolist(), np.flatnonzero(asked).tolist())


def pose_errors(found: Sequence[Matrix], reference: Sequence[Matrix]) -> Matrix:
    """Distance (cm) and angle (degrees) of poses (N, 4, 4) -> (N, 2); infinite where a pose was not found (NaN)."""
    errors = np.full((len(found), 2), np.inf)
    for row, (pose, truth) in enumerate(zip(found, reference, strict=True)):
        if np.isfinite(pose).all():
            turn = se3.rotation_angle(se3.inverse(truth) @ pose)
            errors[row] = 100 * np.linalg.norm(pose[:3, 3] - truth[:3, 3]), np.degrees(turn)
    return errors


def summarize(errors: Matrix, valid: NDArray[np.bool_]) -> dict[str, float]:
    """Figures of errors (N, 2) cm and degrees: medians over all, share within 5 cm and 5 degrees that is valid, share
    valid, and how many valid ones are wrong by more than 10 cm or 10 degrees."""
    near = (errors[:, 0] < NEAR_CM) & (errors[:, 1] < NEAR_DEG) & valid
    wrong = ((errors[:, 0] > WRONG_CM) | (errors[:, 1] > WRONG_DEG)) & valid
    return {
        "median_cm": float(np.median(errors[:, 0])),
        "median_deg": float(np.median(errors[:, 1])),
        "within_5cm_5deg": float(near.mean()),
        "valid": float(valid.mean()),
        "wrong_valid": float(wrong.sum()),
    }


def distance_to_map(queries: Sequence[Matrix], poses: Sequence[Matrix]) -> dict[str, float]:
    """Median over the queries of the distance (cm) and angle (degrees) to the nearest camera of the map."""
    nearest = [min(pose_errors([query] * len(poses), poses).tolist()) for query in queries]
    return {"map_distance_cm": float(np.median(nearest, 0)[0]), "map_angle_deg": float(np.median(nearest, 0)[1])}


def refined_reference(scene: Floats, views: Sequence[Floats], poses: Sequence[Matrix]) -> list[Matrix]:
    """Poses (4, 4) of views moved so that their depth fits the map's, where given poses drift against each other.

    scene (N, 3): the map's points; views (M, 3): each query's points, placed by its given pose. Point to plane.
    """
    target, tree = _prepare(scene)
    return [_align(target, tree, view) @ pose for view, pose in zip(views, poses, strict=True)]


def _align(target: small_gicp.PointCloud, tree: small_gicp.KdTree, points: Floats) -> Matrix:
    source, _ = _prepare(points)
    moved = np.eye(4)
    for reach in REACH:
        moved = small_gicp.align(
            target, source, tree, moved, "PLANE_ICP", max_correspondence_distance=reach, max_iterations=40
        ).T_target_source
    return moved


def _prepare(points: Floats) -> tuple[small_gicp.PointCloud, small_gicp.KdTree]:
    prepared: tuple[small_gicp.PointCloud, small_gicp.KdTree] = small_gicp.preprocess_points(
        points.astype(np.float64), downsampling_resolution=VOXEL, num_neighbors=NEIGHBOURS
    )
    return prepared
