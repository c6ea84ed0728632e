# SPDX-License-Identifier: Apache-2.0
"""Descriptors against the definition, written out pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from perception_models.registration.fpfh import BINS, describe

RADII = (0.3, 0.5)


@pytest.fixture(scope="module")
def cloud() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(60, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return rng.uniform(0, 1, (60, 3)).astype(np.float32), normals.astype(np.float32)


def angles(p: np.ndarray, n: np.ndarray, q: np.ndarray, m: np.ndarray) -> tuple[float, float, float]:
    """Of the Darboux frame on the point whose normal is closer to the line: theta, alpha, phi (Rusu et al., 2009)."""
    line = (q - p) / np.linalg.norm(q - p)
    if abs(n @ line) < abs(m @ line):
        n, m, line = m, n, -line
    v = np.cross(line, n) / np.linalg.norm(np.cross(line, n))
    w = np.cross(n, v)
    return np.arctan2(w @ m, n @ m), v @ m, n @ line


def by_definition(points: np.ndarray, normals: np.ndarray, radius: float) -> np.ndarray:
    count = len(points)
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    simple = np.zeros((count, 3, BINS))
    for i in range(count):
        for j in np.flatnonzero((distance[i] < radius) & (np.arange(count) != i)):
            theta, alpha, phi = angles(points[i], normals[i], points[j], normals[j])
            for angle, value in enumerate(((theta / np.pi + 1) / 2, (alpha + 1) / 2, (phi + 1) / 2)):
                simple[i, angle, min(int(value * BINS), BINS - 1)] += 1
        simple[i] /= max(simple[i, 0].sum(), 1)
    around = np.zeros_like(simple)
    for i in range(count):
        for j in np.flatnonzero((distance[i] < radius) & (np.arange(count) != i)):
            around[i] += simple[j] / max(distance[i, j], radius / 10) ** 2
        around[i] /= max(around[i, 0].sum(), 1e-12)
    return np.sqrt((around + simple) / 6).reshape(count, -1)


def test_descriptors_follow_the_definition(cloud: tuple[np.ndarray, np.ndarray]) -> None:
    points, normals = (array.astype(np.float64) for array in cloud)
    expected = np.hstack([by_definition(points, normals, radius) for radius in RADII]) / np.sqrt(2)

    np.testing.assert_allclose(describe(*cloud, RADII), expected, atol=1e-5)


def test_a_rigid_motion_changes_nothing(cloud: tuple[np.ndarray, np.ndarray]) -> None:
    points, normals = cloud
    turn = Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    moved = describe((points @ turn.T + 5).astype(np.float32), (normals @ turn.T).astype(np.float32), RADII)

    # A value on the border between two bins may fall to either side.
    assert np.mean(np.abs(moved - describe(points, normals, RADII)).max(axis=1) < 1e-3) > 0.9


def test_the_order_of_the_points_does_not_matter(cloud: tuple[np.ndarray, np.ndarray]) -> None:
    points, normals = cloud
    order = np.random.default_rng(1).permutation(len(points))

    np.testing.assert_allclose(
        describe(points[order], normals[order], RADII), describe(points, normals, RADII)[order], atol=1e-6
    )


def test_descriptors_have_unit_length_and_a_lone_point_has_none(cloud: tuple[np.ndarray, np.ndarray]) -> None:
    points, normals = (
        np.vstack([array, extra]) for array, extra in zip(cloud, ([[9, 9, 9]], [[0, 0, 1]]), strict=True)
    )
    found = np.linalg.norm(describe(points.astype(np.float32), normals.astype(np.float32), RADII[1:]), axis=1)

    assert found[-1] == 0
    np.testing.assert_allclose(found[:-1], 1, atol=1e-5)
