# SPDX-License-Identifier: Apache-2.0
"""Correspondences against the dual softmax, computed in full."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.registration.matching import match


@pytest.fixture(scope="module")
def descriptors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(3 * rng.normal(size=(count, 8)).astype(np.float32) for count in (700, 500))  # type: ignore[return-value]


def log_dual_softmax(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    logits = source.astype(np.float64) @ target.T
    by_row = logits - np.log(np.exp(logits - logits.max()).sum(1, keepdims=True)) - logits.max()
    by_column = logits - np.log(np.exp(logits - logits.max()).sum(0)) - logits.max()
    return by_row + by_column


def test_each_source_point_gets_its_likeliest_partner_and_the_likeliest_pairs_come_first(
    descriptors: tuple[np.ndarray, np.ndarray],
) -> None:
    source, target = (array / 2 for array in descriptors)
    expected = log_dual_softmax(source, target)
    best = expected.max(axis=1)
    found = match(source, target, 50)

    np.testing.assert_array_equal(found.source, np.argsort(-best, kind="stable")[:50])
    np.testing.assert_array_equal(found.target, expected.argmax(axis=1)[found.source])
    np.testing.assert_allclose(found.scores, best[found.source], atol=1e-3)


def test_priors_are_added_to_the_log_probabilities(descriptors: tuple[np.ndarray, np.ndarray]) -> None:
    source, target = (array / 2 for array in descriptors)
    rng = np.random.default_rng(1)
    first, second = (-rng.uniform(0, 3, len(array)).astype(np.float32) for array in (source, target))
    expected = log_dual_softmax(source, target) + first[:, None] + second
    found = match(source, target, 100, first, second)

    np.testing.assert_allclose(found.scores, np.sort(expected.max(axis=1))[::-1][:100], atol=1e-3)


def test_threads_do_not_change_what_is_found(descriptors: tuple[np.ndarray, np.ndarray]) -> None:
    alone, together = match(*descriptors, 200), match(*descriptors, 200, threads=3)

    np.testing.assert_array_equal(alone.source, together.source)
    np.testing.assert_array_equal(alone.target, together.target)


def test_points_that_look_alike_rank_behind_one_that_is_unique() -> None:
    unique, common = np.array([5.0, 0, 0]), np.array([0.0, 5, 0])
    cloud = np.array([common, common, common, unique], np.float32)

    assert match(cloud, cloud, 1).source.tolist() == [3]


def test_nothing_matches_nothing() -> None:
    empty = np.empty((0, 8), np.float32)
    assert len(match(empty, np.ones((3, 8), np.float32), 10)) == 0
    assert len(match(np.ones((3, 8), np.float32), empty, 10)) == 0
