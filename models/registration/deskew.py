# SPDX-License-Identifier: Apache-2.0
"""Straightens a sweep that was taken in motion, and the constant-velocity motion that it is straightened by.

A velocity is (6,): vx vy vz in m/s along the sensor's own axes, wx wy wz in rad/s about them. A sweep is referred to
its middle. Referred to its start, an error of the velocity would move the whole sweep, hence the next velocity the
other way, and the two would swing for ever; about the middle it only blurs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from perception_models.geometry import se3

Floats = npt.NDArray[np.float32]
Velocity = npt.NDArray[np.float64]


def velocity_of(step: se3.Matrix, seconds: float) -> Velocity:
    """The velocity (6,) that makes the step (4, 4), a pose seen from the pose before it, in so many seconds."""
    turn = Rotation.from_matrix(step[:3, :3]).as_rotvec()
    velocity: Velocity = np.concatenate([step[:3, 3], turn]) / seconds
    return velocity


def motion(velocity: Velocity, seconds: float) -> se3.Matrix:
    """The step (4, 4) that a velocity makes in so many seconds; inverse of `velocity_of`."""
    return se3.make(Rotation.from_rotvec(velocity[3:] * seconds).as_matrix(), velocity[:3] * seconds)


def middle(times: npt.NDArray[np.floating] | None) -> float:
    """The time in the middle of a sweep with times (N,); 0, the stamp itself, where a sweep has none."""
    return 0.0 if times is None or not len(times) else (float(times.min()) + float(times.max())) / 2


def deskew(points: Floats, times: npt.NDArray[np.floating] | None, velocity: Velocity) -> Floats:
    """Points (N, 3), each in the sensor's frame at its own time (N,) s, as the sensor sees them at `middle(times)`.

    Rotation by Rodrigues' formula for all points at once, translation along the line.
    """
    if times is None or not velocity.any():
        return points
    since = (times - middle(times)).astype(np.float32)
    rate = float(np.linalg.norm(velocity[3:]))
    axis = (velocity[3:] / max(rate, 1e-12)).astype(np.float32)
    cosine, sine = np.cos(since * np.float32(rate)), np.sin(since * np.float32(rate))
    along = sum(axis[i] * points[:, i] for i in range(3)) * (1 - cosine)
    straight = np.empty_like(points)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):  # by column: 25 times faster than products of (N, 3)
        across = axis[j] * points[:, k] - axis[k] * points[:, j]
        travelled = since * np.float32(velocity[i])
        straight[:, i] = points[:, i] * cosine + across * sine + axis[i] * along + travelled
    return straight
