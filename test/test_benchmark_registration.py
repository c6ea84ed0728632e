# SPDX-License-Identifier: Apache-2.0
"""The benchmark of registration on two small fragments whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_nodes.commands.benchmark_registration import measure, table
from perception_nodes.fragment_pairs import FragmentPair, overlapping
from perception_nodes.judges.registration_methods import Answer, Unshown

TRUTH = se3.from_yaw_pitch_roll(0.5, 0, 0, (1.0, 0, 0))


class Told(Unshown):
    """Answers what it was told to."""

    def __init__(self, transform: np.ndarray) -> None:
        self.transform = transform

    def prepare(self, points: np.ndarray) -> np.ndarray:
        return points

    def align(self, source: np.ndarray, target: np.ndarray) -> Answer:
        return Answer(self.transform, True)


@pytest.fixture(scope="module")
def clouds() -> list[np.ndarray]:
    points = np.random.default_rng(0).uniform(0, 2, (3000, 3)).astype(np.float32)
    return [points, se3.apply(TRUTH, points[points[:, 0] > 1]).astype(np.float32)]


def test_pairs_come_with_their_truth_and_overlap(clouds: list[np.ndarray]) -> None:
    (pair,) = overlapping(clouds, [np.eye(4), se3.inverse(TRUTH)])

    np.testing.assert_allclose(pair.transform, TRUTH, atol=1e-12)
    assert pair.overlap == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("far", "recall", "wrong"), [(0.1, 1.0, 0), (0.3, 0.0, 1)])
def test_an_answer_counts_where_it_is_within_the_limit(
    clouds: list[np.ndarray], far: float, recall: float, wrong: int
) -> None:
    told = Told(se3.make(np.eye(3), (far, 0, 0)) @ TRUTH)
    found = measure(told, clouds, [FragmentPair(0, 1, TRUTH, 0.5)])

    assert (found["high_recall"], found["valid_but_wrong"], found["low_pairs"]) == (recall, wrong, 0)
    assert table({"told": found}).rows[0][0] == "told"
