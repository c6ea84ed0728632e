# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms as (4, 4) float64 matrices, quaternions as (4,) x y z w."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def make(rotation: ArrayLike, translation: ArrayLike) -> Matrix:
    """Transform (4, 4) from a rotation (3, 3) and a translation (3,) in metres."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def inverse(transform: Matrix) -> Matrix:
    """Inverse of a rigid transform (4, 4): the rotation is transposed, not inverted."""
    rotation = transform[:3, :3].T
    return make(rotation, -rotation @ transform[:3, 3])


def apply(transform: Matrix, points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points (..., 3) moved by a transform (4, 4); the floating type of the points is kept."""
    rotation = transform[:3, :3].astype(points.dtype)
    return points @ rotation.T + transform[:3, 3].astype(points.dtype)


def from_quaternion(quaternion: ArrayLike, translation: ArrayLike = (0.0, 0.0, 0.0)) -> Matrix:
    """Transform from a quaternion x y z w of any length but zero, and a translation (3,).

    Raises ValueError where the quaternion has no direction.
    """
    values = np.asarray(quaternion, np.float64)
    length = np.linalg.norm(values)
    if not np.isfinite(length) or length < 1e-9:
        raise ValueError(f"quaternion {values.tolist()} is not a rotation; expected x y z w of length 1")
    x, y, z, w = values / length
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return make(rotation, translation)


def to_quaternion(transform: Matrix) -> Matrix:
    """Unit quaternion (4,) x y z w with w >= 0 of a transform (4, 4).

    The four quaternion products are rows of one symmetric matrix; its largest row is the best conditioned.
    """
    (a, b, c), (d, e, f), (g, h, i) = transform[:3, :3]
    products = np.array(
        [
            [1 + a - e - i, b + d, c + g, h - f],
            [b + d, 1 - a + e - i, f + h, c - g],
            [c + g, f + h, 1 - a - e + i, d - b],
            [h - f, c - g, d - b, 1 + a + e + i],
        ]
    )
    row = products[np.argmax(np.diag(products))]
    quaternion: Matrix = row / np.linalg.norm(row)
    return -quaternion if quaternion[3] < 0 else quaternion


def from_yaw_pitch_roll(yaw: float, pitch: float, roll: float, translation: ArrayLike = (0.0, 0.0, 0.0)) -> Matrix:
    """Transform Rz(yaw) Ry(pitch) Rx(roll), radians, as REP-103 names them."""
    cz, sz, cy, sy, cx, sx = (f(angle) for angle in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return make(about_z @ about_y @ about_x, translation)


def nearest_rotation(matrix: ArrayLike) -> Matrix:
    """The rotation (3, 3) nearest to a matrix (3, 3) in the sense of least squares, by SVD; its determinant is +1."""
    left, _, right = np.linalg.svd(np.asarray(matrix, np.float64))
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    rotation: Matrix = left @ right
    return rotation


def interpolate(start: Matrix, end: Matrix, fraction: float) -> Matrix:
    """Pose between two poses: rotation on the shortest arc (slerp), translation on the line; fraction 0 is start."""
    first, second = to_quaternion(start), to_quaternion(end)
    if first @ second < 0:
        second = -second
    angle = np.arccos(np.clip(first @ second, -1.0, 1.0))
    # Below this angle the arc and its chord agree to better than float64 can tell.
    weights = (1 - fraction, fraction) if angle < 1e-6 else np.sin([(1 - fraction) * angle, fraction * angle])
    translation = (1 - fraction) * start[:3, 3] + fraction * end[:3, 3]
    return from_quaternion(weights[0] * first + weights[1] * second, translation)


def rotation_angle(transform: Matrix) -> float:
    """Angle of the rotation in radians, 0 to pi, exact for small angles too."""
    rotation = transform[:3, :3]
    axis = rotation[[2, 0, 1], [1, 2, 0]] - rotation[[1, 2, 0], [2, 0, 1]]
    return float(np.arctan2(np.linalg.norm(axis), np.trace(rotation) - 1))
