# SPDX-License-Identifier: Apache-2.0
"""From where the sensor went to where base_link went (REP-105), and its messages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Twist, TwistWithCovariance, Vector3
from nav_msgs.msg import Odometry
from numpy.typing import NDArray
from std_msgs.msg import Header

from perception_models.geometry import se3
from perception_models.registration.odometry import OdometryStep
from perception_nodes.messages import encode_pose_with_covariance

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Placed:
    """pose (4, 4) of a frame in its fixed frame, covariance (6, 6) of x y z and the rotation about the fixed axes,
    velocity (6,) along and about the frame's own axes."""

    pose: se3.Matrix
    covariance: Matrix
    velocity: Matrix


def sensor_to_base(step: OdometryStep, mount: se3.Matrix, origin: se3.Matrix) -> Placed:
    """Where base_link is when the sensor is at a step; `mount` (4, 4) takes points of the sensor to base_link,
    `origin` (4, 4) takes points of the step's frame to the fixed frame.

    Turning about the sensor shifts base_link across the arm between them.
    """
    sensor = origin @ step.pose
    pose = sensor @ se3.inverse(mount)
    turned = np.kron(np.eye(2), origin[:3, :3])
    spread = np.eye(6)
    spread[:3, 3:] = -_cross(pose[:3, 3] - sensor[:3, 3])
    jacobian = spread @ turned
    turning = mount[:3, :3] @ step.velocity[3:]
    sliding = mount[:3, :3] @ step.velocity[:3] - np.cross(turning, mount[:3, 3])
    return Placed(pose, jacobian @ step.covariance @ jacobian.T, np.concatenate([sliding, turning]))


def encode_odometry(placed: Placed, header: Header, child: str, seconds: float) -> Odometry:
    """The pose in the header's frame, and the velocity in the child's, whose covariance is that of two poses so many
    seconds apart."""
    twist = Twist(linear=_vector(placed.velocity[:3]), angular=_vector(placed.velocity[3:]))
    turned = np.kron(np.eye(2), placed.pose[:3, :3].T)
    spread = turned @ placed.covariance @ turned.T * 2 / seconds**2
    return Odometry(
        header=header,
        child_frame_id=child,
        pose=encode_pose_with_covariance(placed.pose, placed.covariance),
        twist=TwistWithCovariance(twist=twist, covariance=spread.ravel()),
    )


def _cross(vector: Matrix) -> Matrix:
    """The matrix (3, 3) of vector x ..."""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def _vector(values: Matrix) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)
