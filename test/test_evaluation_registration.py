# SPDX-License-Identifier: Apache-2.0
"""Figures of registration against small cases that are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.evaluation.registration import Outcome, alignment_error, inlier_ratio, overlap, summary
from perception_models.geometry import se3

LINE = np.column_stack([np.arange(10.0), np.zeros((10, 2))])


def test_overlap_is_the_smaller_share() -> None:
    target = LINE[6:] + [0, 0.01, 0]  # 4 of 10 points have a partner, and all 4 of the target
    assert overlap(LINE, target, np.eye(4), 0.05) == pytest.approx(0.4)
    shifted = se3.make(np.eye(3), (8.0, 0, 0))
    assert overlap(LINE, target, shifted, 0.05) == pytest.approx(0.2)  # places 8 and 9 of 10 points


def test_the_error_is_that_of_the_shared_points_alone() -> None:
    truth = np.eye(4)
    turned = se3.from_yaw_pitch_roll(0.1, 0, 0, (0, 0, 0))
    shared = 2 * np.sin(0.05) * np.arange(3)  # a chord for each of the points 0, 1 and 2

    assert alignment_error(turned, truth, LINE, LINE[:3], 0.05) == pytest.approx(np.sqrt(np.mean(shared**2)))
    everything = 2 * np.sin(0.05) * np.arange(10)
    assert alignment_error(turned, truth, LINE, LINE[:3] + 100, 0.05) == pytest.approx(np.sqrt(np.mean(everything**2)))


def test_inliers_are_counted_at_the_true_transform() -> None:
    truth = se3.make(np.eye(3), (1.0, 0, 0))
    target = LINE + [1.0, 0, 0]
    target[:4] += 0.5

    assert inlier_ratio(LINE, target, truth, 0.1) == pytest.approx(0.6)
    assert np.isnan(inlier_ratio(LINE[:0], target[:0], truth, 0.1))


def test_recall_is_counted_by_overlap_and_what_is_wrong_but_valid_in_all() -> None:
    outcomes = [
        Outcome(0.5, 0.05, True, 0.4),
        Outcome(0.3, 0.19, False, 0.2),
        Outcome(0.29, 0.21, True, 0.1),
        Outcome(0.1, 0.01, True, 0.3),
    ]
    found = summary(outcomes)

    assert found["high_pairs"] == found["low_pairs"] == 2
    assert (found["high_recall"], found["low_recall"]) == (1.0, 0.5)
    assert found["low_inlier_ratio"] == pytest.approx(0.2)
    assert (found["valid_but_wrong"], found["right_but_not_valid"]) == (1, 1)
