# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from perception_models.geometry import cameras, se3


def test_projection_and_unprojection_are_inverse() -> None:
    matrix = cameras.camera_matrix(525.0, 64, 48)
    depth = np.random.default_rng(0).uniform(0.5, 5, (48, 64)).astype(np.float32)
    pixels = cameras.project(cameras.unproject(depth, matrix), matrix)
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    assert np.allclose(pixels, np.stack([x, y], -1), atol=1e-3)


def test_a_point_behind_the_camera_has_no_pixel() -> None:
    assert np.isnan(cameras.project(np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]]), np.eye(3))).all()


def test_a_resized_camera_sees_the_corners_where_they_are() -> None:
    matrix = cameras.camera_matrix(100.0, 64, 48)
    assert np.allclose(cameras.resize_matrix(matrix, 0.5), cameras.camera_matrix(50.0, 32, 24))


def test_frame_points_are_in_the_world_and_leave_out_pixels_without_depth() -> None:
    depth = np.zeros((3, 3), np.float32)
    depth[1, 1] = 2.0
    pose = se3.make([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [1.0, 0.0, 0.0])  # looks along world x
    frame = cameras.RgbdFrame(np.zeros((3, 3, 3), np.uint8), depth, cameras.camera_matrix(10.0, 3, 3), pose)
    assert np.allclose(cameras.frame_points(frame), [[3.0, 0.0, 0.0]])


def test_a_frame_without_depth_has_no_points() -> None:
    with pytest.raises(ValueError, match="depth"):
        cameras.frame_points(cameras.RgbdFrame(np.zeros((3, 3, 3), np.uint8), None, np.eye(3), np.eye(4)))


def test_the_nearest_rotation_undoes_a_small_disturbance_and_never_mirrors() -> None:
    rotation = se3.from_yaw_pitch_roll(0.3, -0.2, 0.9)[:3, :3]
    disturbed = rotation + 1e-3 * np.random.default_rng(1).standard_normal((3, 3))
    assert np.abs(se3.nearest_rotation(disturbed) - rotation).max() < 5e-3
    assert np.isclose(np.linalg.det(se3.nearest_rotation(np.diag([1.0, 1.0, -0.5]))), 1.0)
