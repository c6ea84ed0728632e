# SPDX-License-Identifier: Apache-2.0
"""Errors of trajectories against closed forms."""

import numpy as np
import pytest

from perception_models.evaluation import odometry
from perception_models.geometry import se3


def circle(frames: int = 41, radius: float = 5.0) -> np.ndarray:
    """Poses once around a circle, looking ahead."""
    angles = np.linspace(0, 2 * np.pi, frames)
    return np.array([
        se3.from_yaw_pitch_roll(a + np.pi / 2, 0, 0, [radius * np.cos(a), radius * np.sin(a), 0]) for a in angles
    ])  # fmt: skip


def test_a_trajectory_in_another_world_has_no_error() -> None:
    truth = circle()
    elsewhere = se3.from_yaw_pitch_roll(1.0, 0.3, -0.2, [4, 5, 6]) @ truth

    assert odometry.absolute_error(elsewhere, truth) < 1e-9
    assert odometry.relative_errors(elsewhere, truth).max() < 1e-7
    assert odometry.end_point_error(elsewhere, truth) < 1e-9


def test_the_absolute_error_is_that_of_the_best_rigid_fit() -> None:
    truth = circle(41)[:-1]  # each point once
    larger = truth.copy()
    larger[:, :3, 3] *= 1.1

    assert odometry.absolute_error(larger, truth) == pytest.approx(0.5)


def test_a_mirrored_path_is_not_taken_for_the_same() -> None:
    truth = circle()[:25]
    truth[:, 2, 3] = np.linspace(0, 3, 25)
    mirrored = truth.copy()
    mirrored[:, 0, 3] *= -1

    assert odometry.absolute_error(mirrored, truth) > 0.3


def test_relative_errors_are_those_of_a_constant_drift() -> None:
    truth = np.tile(np.eye(4), (30, 1, 1))
    truth[:, 0, 3] = np.arange(30)
    drifting = truth.copy()
    for k in range(30):
        drifting[k] = se3.from_yaw_pitch_roll(0, 0, 0.01 * k, [1.02 * k, 0, 0])  # roll leaves the path straight

    errors = odometry.relative_errors(drifting, truth, frames=10)

    assert errors.shape == (20, 2)
    np.testing.assert_allclose(errors, [[0.2, 0.1]] * 20, atol=1e-9)


def test_poses_that_were_not_given_are_left_out_and_counted() -> None:
    truth = circle()
    estimate = truth.copy()
    estimate[10:14] = np.nan

    figures = odometry.summary(estimate, truth)

    assert figures["valid"] == pytest.approx(37 / 41)
    assert figures["ate_m"] < 1e-9
    assert figures["relative_p95_deg"] < 1e-5
    assert odometry.relative_errors(estimate, truth).shape == (41 - 10 - 8, 2)


def test_the_path_is_as_long_as_its_chords() -> None:
    assert odometry.path_length(circle(41)) == pytest.approx(40 * 2 * 5 * np.sin(np.pi / 40))


def test_nothing_given_leaves_no_error_to_tell() -> None:
    assert odometry.summary(np.full((5, 4, 4), np.nan), circle(5)).keys() == {"valid", "path_m"}


def test_trajectories_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        odometry.absolute_error(circle(5), circle(6))
    with pytest.raises(ValueError, match="over 10 frames"):
        odometry.relative_errors(circle(5), circle(5))
    with pytest.raises(ValueError, match="needs three"):
        odometry.absolute_error(np.full((5, 4, 4), np.nan), circle(5))
