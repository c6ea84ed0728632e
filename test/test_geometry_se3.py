# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms against their closed forms."""

import numpy as np
import pytest

from perception_models.geometry import se3


def random_pose(rng: np.random.Generator) -> np.ndarray:
    return se3.from_quaternion(rng.normal(size=4), rng.normal(size=3) * 10)


def test_quaternions_survive_the_round_trip_and_rotate_as_the_sandwich_product() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        pose = random_pose(rng)
        np.testing.assert_allclose(se3.from_quaternion(se3.to_quaternion(pose), pose[:3, 3]), pose, atol=1e-12)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(se3.from_quaternion([0, 0, half, half])[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_a_quaternion(axis: int) -> None:
    rotation = -np.eye(3)
    rotation[axis, axis] = 1
    np.testing.assert_allclose(np.abs(se3.to_quaternion(se3.make(rotation, [0, 0, 0]))), np.eye(4)[axis], atol=1e-12)


def test_zero_quaternion_is_refused() -> None:
    with pytest.raises(ValueError, match="not a rotation"):
        se3.from_quaternion([0, 0, 0, 0])


def test_inverse_undoes_and_apply_keeps_the_type() -> None:
    rng = np.random.default_rng(1)
    pose, points = random_pose(rng), rng.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(se3.inverse(pose) @ pose, np.eye(4), atol=1e-12)
    moved = se3.apply(pose, points)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(se3.apply(se3.inverse(pose), moved), points, atol=1e-5)


def test_yaw_pitch_roll_turn_about_z_y_x() -> None:
    np.testing.assert_allclose(se3.from_yaw_pitch_roll(np.pi / 2, 0, 0)[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(se3.from_yaw_pitch_roll(0, np.pi / 2, 0)[:3, :3] @ [1, 0, 0], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(se3.from_yaw_pitch_roll(0, 0, np.pi / 2)[:3, :3] @ [0, 1, 0], [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.3, 3.0, np.pi])
def test_rotation_angle_and_interpolation_along_one_axis(angle: float) -> None:
    end = se3.from_yaw_pitch_roll(angle, 0, 0, [4, 0, 0])
    assert se3.rotation_angle(end) == pytest.approx(angle, abs=1e-12)
    quarter = se3.interpolate(np.eye(4), end, 0.25)
    assert se3.rotation_angle(quarter) == pytest.approx(angle / 4, abs=1e-9)
    np.testing.assert_allclose(quarter[:3, 3], [1, 0, 0])
