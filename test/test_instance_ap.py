# SPDX-License-Identifier: Apache-2.0
"""Average precision of instances against a slow computation by ScanNet's protocol, and cases counted by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from perception_models.evaluation.instances import SceneLabels, instance_figures, superpoint_figures

MIN_POINTS = 5


def random_scene(seed: int) -> SceneLabels:
    """True instances of very different sizes, and found ones that mix them up in part."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(-1, 12), rng.integers(1, 60, 13))
    found = np.where(rng.random(len(truth)) < 0.25, rng.integers(-1, 12, len(truth)), truth + rng.integers(0, 2))
    found = np.where(found > 11, 11, found)
    return SceneLabels(found, rng.permutation(12) / 12 + 0.01, truth)


def slow_precision(scenes: Sequence[SceneLabels], threshold: float) -> float:
    """The same from sets of points, one after the other."""
    verdicts, objects = [], 0
    for scene in scenes:
        everything = {k: set(np.flatnonzero(scene.truth == k)) for k in set(scene.truth.tolist()) - {-1}}
        true = {k: points for k, points in everything.items() if len(points) >= MIN_POINTS}
        void = set(range(len(scene.truth))) - set().union(*true.values())
        masks = {k: set(np.flatnonzero(scene.found == k)) for k in range(len(scene.scores))}
        masks = {k: mask for k, mask in masks.items() if len(mask) >= MIN_POINTS}
        objects += len(true)
        verdict: dict[int, bool | None] = dict.fromkeys(masks)
        for points in true.values():
            takers = [k for k, m in masks.items() if not verdict[k] and len(m & points) / len(m | points) > threshold]
            takers.sort(key=lambda k: -scene.scores[k])
            verdict.update({k: place == 0 for place, k in enumerate(takers)})
        for k, mask in masks.items():
            if verdict[k] is None and len(mask & void) / len(mask) <= threshold:
                verdict[k] = False
        verdicts += [(scene.scores[k], hit) for k, hit in verdict.items() if hit is not None]
    corners = [(0.0, 1.0)]
    for score in sorted({score for score, _ in verdicts}, reverse=True):
        taken = [hit for other, hit in verdicts if other >= score]
        corners.append((sum(taken) / objects, sum(taken) / len(taken)))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(corners, corners[1:], strict=False))


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_a_slow_computation(seed: int) -> None:
    scenes = [random_scene(10 * seed + number) for number in range(3)]

    figures = instance_figures(scenes, MIN_POINTS)

    strict = [slow_precision(scenes, threshold) for threshold in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)]
    assert figures["ap"] == pytest.approx(100 * np.mean(strict))
    assert figures["ap_50"] == pytest.approx(100 * strict[0])
    assert figures["ap_25"] == pytest.approx(100 * slow_precision(scenes, 0.25))


def test_truth_found_is_perfect_whatever_the_scores_and_names() -> None:
    truth = np.repeat([7, 3, -1, 9], [30, 20, 50, 10])
    found = np.repeat([1, 0, -1, 2], [30, 20, 50, 10])

    figures = instance_figures([SceneLabels(found, np.array([0.1, 0.5, 0.3]), truth)], MIN_POINTS)

    assert figures == {"ap": 100, "ap_50": 100, "ap_25": 100}


def test_a_half_that_is_no_more_than_half_is_found_only_at_25() -> None:
    found = np.repeat([0, 1], [50, 50])

    figures = instance_figures([SceneLabels(found, np.array([0.9, 0.8]), np.zeros(100, int))])

    assert figures["ap_50"] == 0
    assert figures["ap_25"] == pytest.approx(0)  # fewer points than ScanNet's least instance
    figures = instance_figures([SceneLabels(found, np.array([0.9, 0.8]), np.zeros(100, int))], MIN_POINTS)
    assert figures["ap_50"] == 0
    assert figures["ap_25"] == 100, "the second half is false, but scores less"


def test_what_lies_where_the_truth_does_not_speak_is_not_false() -> None:
    truth, scores = np.repeat([0, -1], [40, 60]), np.array([0.5, 0.9])

    assert instance_figures([SceneLabels(np.repeat([0, 1], [40, 60]), scores, truth)], MIN_POINTS)["ap"] == 100
    mixed = SceneLabels(np.repeat([0, 1], [30, 70]), scores, truth)
    assert instance_figures([mixed], MIN_POINTS)["ap_50"] == 100, "six sevenths of it are not judged"


def test_small_instances_are_not_judged() -> None:
    truth, found = np.repeat([0, 1], [40, 4]), np.repeat([0, 1], [40, 4])

    assert instance_figures([SceneLabels(found, np.array([0.5, 0.9]), truth)], MIN_POINTS)["ap"] == 100


def test_without_a_true_instance_there_is_no_figure() -> None:
    nothing = SceneLabels(np.zeros(50, int), np.ones(1), np.full(50, -1))

    assert np.isnan(instance_figures([nothing])["ap"])
    assert np.isnan(superpoint_figures(nothing.found, nothing.truth)["undersegmentation"])


def test_labels_of_another_cloud_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be judged"):
        instance_figures([SceneLabels(np.zeros(5, int), np.ones(1), np.zeros(6, int))])


def test_superpoints_that_mix_instances_are_counted_by_their_points() -> None:
    truth = np.repeat([0, 1, -1], [60, 40, 20])
    parts = np.repeat([0, 1, 2, 3, 4], [30, 40, 20, 10, 20])  # the second: 30 of instance 0, 10 of instance 1

    assert superpoint_figures(parts, truth) == {"undersegmentation": 10.0, "oversegmentation": 2.0}
