# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment of a few images (Triggs et al., "Bundle Adjustment - A Modern Synthesis", 1999): poses and points
together by Levenberg-Marquardt, the points eliminated first; a weak prior on the depth of each sight holds the size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from perception_models.geometry.cameras import Matrix
from perception_models.reconstruction.features import Indices

NEAREST = 1e-2  # m; what comes nearer to a camera no longer pulls at it
DAMPING = 1e-3  # at first, as a share of the diagonal
DONE = 1e-3  # share of the cost; a smaller gain is the last


@dataclass(frozen=True)
class Sights:
    """M sights of points in images: which image and which point (M,), in which direction (M, 2), x / z and y / z, at
    which depth (M,) m, 0 where not known; sigmas of a direction, and of the logarithm of a depth."""

    images: Indices
    points: Indices
    rays: Matrix
    depths: Matrix
    ray_sigma: float
    depth_sigma: float


@dataclass(frozen=True)
class Bundle:
    """Poses (K, 4, 4), world -> camera, and points (L, 3) m in the world."""

    poses: Matrix
    points: Matrix


@dataclass(frozen=True)
class System:
    """The robust cost, and the normal equations: blocks of the poses (K, 6, 6), of the points (L, 3, 3), and between
    them (L, 3, K, 6), and their right sides (K, 6) and (L, 3). A pose's unknowns are turn and step in the camera."""

    cost: float
    of_poses: Matrix
    of_points: Matrix
    between: Matrix
    pose_goal: Matrix
    point_goal: Matrix


def adjust(bundle: Bundle, sights: Sights, fixed: int, rounds: int) -> Bundle:
    """The poses, but for the first `fixed`, and all points moved to where the sights agree best."""
    system, damping = linearised(bundle, sights), DAMPING
    for _ in range(rounds):
        moved = _moved(bundle, *_solved(system, fixed, damping))
        after = linearised(moved, sights)
        if after.cost >= system.cost:
            damping *= 10
            continue
        gain = 1 - after.cost / system.cost
        bundle, system, damping = moved, after, damping / 5
        if gain < DONE:
            break
    return bundle


def linearised(bundle: Bundle, sights: Sights) -> System:
    """The equations about a bundle, with Cauchy's weights, so that what is far off counts little."""
    images, points, count = sights.images, sights.points, (len(bundle.poses), len(bundle.points))
    rotation = bundle.poses[images, :3, :3]
    seen = np.einsum("mij,mj->mi", rotation, bundle.points[points]) + bundle.poses[images, :3, 3]
    error, slope = _errors(seen, sights)
    squares = np.stack([error[:, 0] ** 2 + error[:, 1] ** 2, error[:, 2] ** 2], axis=1)
    root = np.sqrt(np.where(seen[:, 2:] > NEAREST, 1 / (1 + squares), 0))[:, [0, 0, 1]]
    error, slope = error * root, slope * root[..., None]
    by_pose = np.concatenate([np.cross(seen[:, None], slope), slope], axis=2).transpose(0, 2, 1)
    by_point = (slope @ rotation).transpose(0, 2, 1)
    between = np.zeros((count[1], count[0], 3, 6))
    between[points, images] = by_point @ by_pose.transpose(0, 2, 1)
    return System(
        cost=float(np.log1p(squares).sum()),
        of_poses=_summed(by_pose @ by_pose.transpose(0, 2, 1), images, count[0]),
        of_points=_summed(by_point @ by_point.transpose(0, 2, 1), points, count[1]),
        between=between.transpose(0, 2, 1, 3),
        pose_goal=_summed(-np.einsum("mir,mr->mi", by_pose, error), images, count[0]),
        point_goal=_summed(-np.einsum("mir,mr->mi", by_point, error), points, count[1]),
    )


def _errors(seen: Matrix, sights: Sights) -> tuple[Matrix, Matrix]:
    """Of points (M, 3) in the cameras' frames: errors (M, 3) of direction and depth in sigmas, and their derivatives
    (M, 3, 3)."""
    z, known = np.maximum(seen[:, 2], NEAREST), sights.depths > 0
    error, slope = np.zeros((len(z), 3)), np.zeros((len(z), 3, 3))
    error[:, :2] = (seen[:, :2] / z[:, None] - sights.rays) / sights.ray_sigma
    error[known, 2] = np.log(z[known] / sights.depths[known]) / sights.depth_sigma
    slope[:, 0, 0] = slope[:, 1, 1] = 1 / z / sights.ray_sigma
    slope[:, :2, 2] = -seen[:, :2] / z[:, None] ** 2 / sights.ray_sigma
    slope[:, 2, 2] = known / z / sights.depth_sigma
    return error, slope


def _summed(blocks: Matrix, owners: Indices, count: int) -> Matrix:
    """Sums (count, ...) of blocks (M, ...) by owner (M,)."""
    columns = blocks.reshape(len(blocks), -1).T
    sums = np.stack([np.bincount(owners, column, count) for column in columns], axis=1)
    return np.asarray(sums.reshape(count, *blocks.shape[1:]), np.float64)


def _solved(system: System, fixed: int, damping: float) -> tuple[Matrix, Matrix]:
    """Steps of poses (K, 6) and points (L, 3). The tiny terms are for what nothing is known of."""
    k = len(system.of_poses)
    inverse = np.linalg.inv(system.of_points * (1 + damping * np.eye(3)) + 1e-6 * np.eye(3))
    between = system.between.reshape(-1, 3, 6 * k)
    folded = inverse @ between
    reduced = -np.tensordot(between, folded, ((0, 1), (0, 1)))
    own = reduced.reshape(k, 6, k, 6)
    own[np.arange(k), :, np.arange(k)] += system.of_poses * (1 + damping * np.eye(6)) + 1e-9 * np.eye(6)
    goal = system.pose_goal.ravel() - np.tensordot(folded, system.point_goal, ((0, 1), (0, 1)))
    steps, free = np.zeros(6 * k), slice(6 * fixed, None)
    steps[free] = np.linalg.solve(reduced[free, free], goal[free])
    return steps.reshape(k, 6), np.einsum("lij,lj->li", inverse, system.point_goal - between @ steps)


def _moved(bundle: Bundle, pose_steps: Matrix, point_steps: Matrix) -> Bundle:
    motion = np.tile(np.eye(4), (len(pose_steps), 1, 1))
    motion[:, :3, :3] = Rotation.from_rotvec(pose_steps[:, :3]).as_matrix()
    motion[:, :3, 3] = pose_steps[:, 3:]
    return Bundle(motion @ bundle.poses, bundle.points + point_steps)
