# SPDX-License-Identifier: Apache-2.0
"""Figures of depth, clouds and scaled paths against grid searches, brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.evaluation import odometry
from perception_models.evaluation.cloud import cloud_figures, thinned
from perception_models.evaluation.depth import best_scale, depth_errors, depth_figures, judged
from perception_models.geometry import se3
from perception_models.geometry.robust import weighted_median
from perception_models.geometry.similarity import fit


def depths(count: int = 4, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Found and true depth of some images, each wrong by a scale of its own and by noise."""
    rng = np.random.default_rng(seed)
    truths = [rng.uniform(0.5, 4, 500 + 100 * k) for k in range(count)]
    return [(rng.uniform(0.5, 2) * truth * np.exp(rng.normal(0, 0.2, truth.shape)), truth) for truth in truths]


@pytest.mark.parametrize("seed", range(5))
def test_no_scale_of_a_grid_is_better_than_the_best_one(seed: int) -> None:
    found, truth = (np.concatenate(parts) for parts in zip(*depths(seed=seed), strict=True))
    best = depth_errors(best_scale(found, truth) * found, truth)["abs_rel"]
    tried = [depth_errors(scale * found, truth)["abs_rel"] for scale in np.linspace(0.2, 3, 2001)]
    assert best <= min(tried) + 1e-9 and min(tried) < best + 1e-3


def test_no_constant_of_a_grid_is_better_than_the_best_one() -> None:
    truth = np.concatenate([truth for _, truth in depths()])
    best = best_scale(np.ones_like(truth), truth)
    tried = np.linspace(0.4, 4.1, 3001)
    errors = np.array([np.mean(np.abs(constant - truth) / truth) for constant in tried])
    assert np.mean(np.abs(best - truth) / truth) <= errors.min() + 1e-9
    assert best == pytest.approx(tried[errors.argmin()], abs=0.01)
    assert depth_figures([(np.ones_like(truth), truth)])["abs_rel"] == pytest.approx(errors.min(), abs=1e-4)


def test_errors_are_those_of_a_loop_over_pixels() -> None:
    (found, truth), *_ = depths()
    pixels = list(zip(found.tolist(), truth.tolist(), strict=True))
    figures = depth_errors(found, truth)
    assert figures["abs_rel"] == pytest.approx(np.mean([abs(f - t) / t for f, t in pixels]))
    assert figures["delta"] == pytest.approx(np.mean([max(f / t, t / f) < 1.25 for f, t in pixels]))
    assert figures["rmse_log"] == pytest.approx(np.sqrt(np.mean([(np.log(f) - np.log(t)) ** 2 for f, t in pixels])))


def test_what_is_wrong_by_scales_alone_is_right_once_they_are_given() -> None:
    truths = [truth for _, truth in depths()]
    one_scale = depth_figures([(2.0 * truth, truth) for truth in truths])
    a_scale_each = depth_figures([((1.0 + k) * truth, truth) for k, truth in enumerate(truths)])
    assert one_scale["abs_rel"] < 1e-9 and one_scale["delta"] == 1 and one_scale["scale"] == pytest.approx(0.5)
    assert one_scale["abs_rel_metric"] == pytest.approx(1.0) and one_scale["delta_metric"] == 0
    assert a_scale_each["abs_rel_image"] < 1e-9 and a_scale_each["abs_rel"] > 0.1


def test_only_pixels_with_both_depths_within_the_mask_are_judged() -> None:
    found, truth = np.array([[1.0, 2, 0, np.nan, 5]]), np.array([[1.5, 0, 3, 4, 6]])
    one, true = judged(found, truth, np.array([[True, True, True, True, False]]))
    assert one.tolist() == [1.0] and true.tolist() == [1.5]
    assert depth_figures([(np.zeros(0), np.zeros(0))]) == {}


def test_the_weighted_median_has_half_of_the_weight_on_either_side() -> None:
    rng = np.random.default_rng(1)
    values, weights = rng.normal(size=999), rng.random(999)
    middle = weighted_median(values, weights)
    assert weights[values < middle].sum() <= weights.sum() / 2 >= weights[values > middle].sum()
    assert weighted_median([3.0, 1, 2], [1, 1, 1]) == 2
    assert np.isnan(weighted_median([], [])) and np.isnan(weighted_median([1.0], [0.0]))


def test_a_similarity_is_found_and_is_the_best_of_its_kind() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(50, 3))
    true = se3.from_yaw_pitch_roll(1, 0.4, -0.6, [3, -2, 5])
    exact = fit(points, se3.apply(true, 2.5 * points), scaled=True)
    np.testing.assert_allclose(exact.pose, true, atol=1e-9)
    assert exact.scale == pytest.approx(2.5)

    goal = se3.apply(true, 2.5 * points) + rng.normal(0, 0.3, points.shape)
    best = fit(points, goal, scaled=True)
    cost = ((best.apply(points) - goal) ** 2).sum()
    for _ in range(200):
        turn = se3.from_yaw_pitch_roll(*rng.normal(0, 0.02, 3), rng.normal(0, 0.02, 3))
        other = se3.apply(best.pose @ turn, best.scale * np.exp(rng.normal(0, 0.02)) * points)
        assert ((other - goal) ** 2).sum() >= cost
    assert fit(points, goal, scaled=False).scale == 1.0


def path(frames: int = 30) -> np.ndarray:
    rng = np.random.default_rng(3)
    steps = np.cumsum(rng.normal(0.1, 0.05, (frames, 3)), axis=0)
    return np.array([se3.from_yaw_pitch_roll(0.05 * k, 0.02 * k, 0, step) for k, step in enumerate(steps)])


def test_a_path_of_another_size_has_no_error_once_scaled() -> None:
    truth = path()
    smaller = se3.from_yaw_pitch_roll(2, 1, 0.5, [1, 2, 3]) @ truth
    start = smaller[0, :3, 3].copy()
    smaller[:, :3, 3] = start + 0.3 * (smaller[:, :3, 3] - start)
    assert odometry.absolute_error(smaller, truth, scaled=True) < 1e-9 < odometry.absolute_error(smaller, truth)
    assert odometry.relative_errors(odometry.as_large(smaller, truth), truth, 1).max() < 1e-6


def test_two_planes_apart_are_as_far_apart_as_they_are() -> None:
    x, y = np.meshgrid(np.arange(0, 1, 0.02), np.arange(0, 1, 0.02))
    plane = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], 1) + 0.01
    figures = cloud_figures(plane + [0, 0, 0.05], plane)
    for name in ("accuracy_m", "accuracy_median_m", "completeness_m", "completeness_median_m"):
        assert figures[name] == pytest.approx(0.05, abs=1e-6)
    assert figures["normal_consistency"] == pytest.approx(1, abs=1e-6)


def test_half_a_cloud_is_accurate_and_incomplete() -> None:
    rng = np.random.default_rng(4)
    truth = np.column_stack([rng.uniform(0, 2, (4000, 2)), np.zeros(4000)])
    found = truth[truth[:, 0] < 1]
    figures = cloud_figures(found, truth)
    kept, half = thinned(truth, 0.02), thinned(found, 0.02)
    apart = np.linalg.norm(kept[:, None] - half[None], axis=-1)
    assert figures["completeness_m"] == pytest.approx(apart.min(axis=1).mean())
    assert figures["accuracy_m"] == pytest.approx(apart.min(axis=0).mean(), abs=1e-9)
    assert figures["accuracy_m"] < 0.01 < 0.2 < figures["completeness_m"]
    assert cloud_figures(found[:0], truth) == {}


def test_normals_across_each_other_agree_in_nothing() -> None:
    rng = np.random.default_rng(5)
    floor = np.column_stack([rng.uniform(0, 1, (3000, 2)), np.zeros(3000)])
    wall = floor[:, [0, 2, 1]]
    assert cloud_figures(wall, floor)["normal_consistency"] < 0.3


def test_what_lies_beyond_all_voxels_is_left_out() -> None:
    points = np.array([[0.0, 0, 0], [0.001, 0, 0], [1e9, 0, 0]])
    assert thinned(points, 0.02).tolist() == [[0.0, 0, 0]]
