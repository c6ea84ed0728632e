# SPDX-License-Identifier: Apache-2.0
"""Figures of scans from nothing against cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.evaluation.scan_pairs import ScanOutcome, by_distance, pose_errors
from perception_models.geometry import se3


def test_errors_of_a_pose_are_metres_and_degrees() -> None:
    truth = se3.from_yaw_pitch_roll(1.0, 0, 0, (5.0, 0, 0))
    found = truth @ se3.from_yaw_pitch_roll(np.radians(2.0), 0, 0, (0.3, 0.4, 0))
    assert pose_errors(found, truth) == pytest.approx((0.5, 2.0))


def test_success_is_right_and_valid_by_the_band_of_distances() -> None:
    outcomes = [
        ScanOutcome(1.0, 0.1, 0.1, True, 100.0),
        ScanOutcome(1.0, 0.59, 1.49, True, 300.0),
        ScanOutcome(6.0, 0.61, 0.1, True, 200.0),
        ScanOutcome(6.0, 0.1, 0.1, False, 200.0),
        ScanOutcome(12.0, 0.1, 1.6, False, 200.0),
    ]
    found = by_distance(outcomes)

    assert list(found) == ["0 to 2.5 m", "5 to 7.5 m", "over 10 m", "all"]
    assert found["0 to 2.5 m"]["success"] == 1 and found["0 to 2.5 m"]["p50_ms"] == 200
    assert (found["5 to 7.5 m"]["valid_but_wrong"], found["5 to 7.5 m"]["right_but_not_valid"]) == (1, 1)
    assert found["over 10 m"]["success"] == 0 and "median_cm" not in found["over 10 m"]
    assert found["all"]["success"] == pytest.approx(2 / 5)
