# SPDX-License-Identifier: Apache-2.0
"""Two clouds from nothing: what overlaps is found, what does not is not believed, what is no cloud is refused."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.registration import Registrar
from perception_models.registration.consensus import MatchedPoints, propose
from perception_models.registration.matching import Correspondences
from perception_models.registration.preprocess import prepare
from perception_models.registration.refinement import refine
from perception_models.registration.settings import INDOOR, LIDAR
from perception_models.registration.verification import fit

MOTION = se3.from_yaw_pitch_roll(2.0, 0.1, -0.15, (0.6, -0.4, 0.2))


def faces(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, density: float) -> np.ndarray:
    """Points on the six faces of a box, `density` a square metre."""
    parts = []
    for axis in range(3):
        u, v = (other for other in range(3) if other != axis)
        count = int(density * (high[u] - low[u]) * (high[v] - low[v]))
        for side in (low[axis], high[axis]):
            face = rng.uniform(low, high, (count, 3))
            face[:, axis] = side
            parts.append(face)
    return np.concatenate(parts)


def room(seed: int) -> np.ndarray:
    """A room of 4 x 3 x 2.4 m around its origin, with boxes of all sizes in it."""
    rng = np.random.default_rng(seed)
    half = np.array([2.0, 1.5, 1.2])
    parts = [faces(rng, -half, half, 600)]
    for _ in range(9):
        size = rng.uniform(0.2, 0.8, 3)
        corner = rng.uniform(-half, half - size)
        corner[2] = -half[2]
        parts.append(faces(rng, corner, corner + size, 900))
    points = np.concatenate(parts)
    return points + rng.normal(0, 0.004, points.shape)


@pytest.fixture(scope="module")
def halves() -> tuple[np.ndarray, np.ndarray]:
    """The left and the right part of a room, 40 % of it in both, the right one in a frame of its own."""
    left, right = room(0), room(0)[::-1]
    left, right = left[left[:, 0] < 0.7], right[right[:, 0] > -0.7]
    rng = np.random.default_rng(5)  # other samples of the same surfaces
    right = right + rng.normal(0, 0.004, right.shape)
    return left.astype(np.float32), se3.apply(MOTION, right).astype(np.float32)


@pytest.fixture(scope="module")
def registrar() -> Registrar:
    return Registrar.load("classical", scale="indoor")


def test_overlapping_clouds_are_found_from_nothing(registrar: Registrar, halves: tuple[np.ndarray, np.ndarray]) -> None:
    found = registrar.align(*halves)

    assert found.valid and not found.reason
    error = se3.inverse(MOTION) @ found.transform
    assert np.linalg.norm(error[:3, 3]) < 0.01 and se3.rotation_angle(error) < 0.005
    assert 0.2 < found.overlap < 0.8 and found.inliers > 1000
    deviation = np.sqrt(np.diag(found.covariance))
    assert np.all(deviation < 0.05) and np.all(np.linalg.eigvalsh(found.covariance) > 0)


def test_the_other_way_round_is_the_inverse(registrar: Registrar, halves: tuple[np.ndarray, np.ndarray]) -> None:
    back = registrar.align(halves[1], halves[0])
    np.testing.assert_allclose(back.transform @ MOTION, np.eye(4), atol=0.02)


def test_other_places_are_not_believed(registrar: Registrar) -> None:
    rooms = [registrar.prepare(room(seed).astype(np.float32)) for seed in range(1, 4)]
    street = np.random.default_rng(0).uniform(-2, 2, (8000, 3)).astype(np.float32)  # no surface at all
    results = [registrar.align_clouds(rooms[i], rooms[j]) for i, j in ((0, 1), (1, 2), (2, 0))]
    results.append(registrar.align_clouds(rooms[0], registrar.prepare(street)))

    assert [result.valid for result in results] == [False] * 4
    assert all(result.reason for result in results)


def test_a_bare_wall_can_slide(registrar: Registrar) -> None:
    rng = np.random.default_rng(0)
    wall = np.column_stack([np.full(30_000, 2.0), rng.uniform(-2, 2, (30_000, 2))]) + rng.normal(0, 0.004, (30_000, 3))
    assert not registrar.align(wall.astype(np.float32), (wall + [0, 0.3, 0]).astype(np.float32)).valid


@pytest.mark.parametrize("count", [0, 3, 99])
def test_too_few_points_are_said_and_not_guessed(registrar: Registrar, count: int) -> None:
    few = np.random.default_rng(0).uniform(-1, 1, (count, 3)).astype(np.float32)
    found = registrar.align(few, room(0).astype(np.float32))

    assert not found.valid and "points" in found.reason
    np.testing.assert_array_equal(found.transform, np.eye(4))
    assert np.all(np.isinf(np.diag(found.covariance)))


@pytest.mark.parametrize("wrong", [np.ones((5, 4), np.float32), np.ones((5, 3), int), np.ones(6), [[1.0, 2, 3]]])
def test_what_is_no_cloud_is_refused(registrar: Registrar, wrong: object) -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        registrar.align(wrong, room(0).astype(np.float32))  # type: ignore[arg-type]


def test_points_that_are_not_finite_are_left_out(registrar: Registrar, halves: tuple[np.ndarray, np.ndarray]) -> None:
    spoiled = np.vstack([np.full((50, 3), np.nan, np.float32), halves[0], [[np.inf, 0, 0]]]).astype(np.float32)
    np.testing.assert_allclose(registrar.align(spoiled, halves[1]).transform, MOTION, atol=0.02)


def test_clouds_of_different_scales_are_not_mixed(registrar: Registrar) -> None:
    points = room(0).astype(np.float32)
    with pytest.raises(ValueError, match="scale"):
        registrar.align_clouds(prepare(points, INDOOR), prepare(points, LIDAR))


def test_consensus_finds_a_tenth_of_right_correspondences() -> None:
    cloud = prepare(room(0).astype(np.float32), INDOOR)
    rng = np.random.default_rng(0)
    source = rng.choice(len(cloud), 400, replace=False)
    partner = np.where(np.arange(400) < 40, source, rng.permutation(len(cloud))[:400])
    points = se3.apply(MOTION, cloud.points).astype(np.float32)
    normals = (cloud.normals @ MOTION[:3, :3].T).astype(np.float32)
    matched = MatchedPoints(cloud.points[source], points[partner], cloud.normals[source], normals[partner], INDOOR)

    np.testing.assert_allclose(propose(matched)[0], MOTION, atol=0.01)


def test_fewer_than_three_correspondences_propose_nothing() -> None:
    cloud = prepare(room(0).astype(np.float32), INDOOR)
    pairs = Correspondences(np.array([0, 1]), np.array([0, 1]), np.zeros(2, np.float32))
    assert propose(MatchedPoints.of(cloud, cloud, pairs)).shape == (0, 4, 4)


def test_what_stands_in_free_space_counts_against_a_fit() -> None:
    cloud = prepare(room(0).astype(np.float32), INDOOR)
    inside = se3.make(np.eye(3), (1.2, 0.0, 0.0))  # a wall in the middle of the room
    fits = fit(np.stack([np.eye(4), inside]), cloud, cloud, 400)

    assert fits.overlap[0] > 0.99 and fits.violation[0] < 0.01
    assert fits.violation[1] > 0.05 and fits.score[1] < 0.2 * fits.score[0]


def test_an_empty_cloud_does_not_reach_small_gicp() -> None:
    cloud = prepare(room(0).astype(np.float32), INDOOR)
    empty = prepare(np.empty((0, 3), np.float32), INDOOR)
    for source, target in ((cloud, empty), (empty, cloud)):
        with pytest.raises(ValueError, match="empty"):
            refine(np.eye(4), source, target)


def test_no_partner_in_reach_means_no_inliers() -> None:
    cloud = prepare(room(0).astype(np.float32), INDOOR)
    far = se3.make(np.eye(3), (100.0, 0, 0))
    assert refine(far, cloud, cloud).inliers == 0
