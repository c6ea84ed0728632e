# SPDX-License-Identifier: Apache-2.0
"""Scan pairs: figures by distance, the recorded pairs and their truth, and their benchmark."""

from __future__ import annotations

from argparse import Namespace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from perception_models.evaluation.scan_pairs import ScanOutcome, by_distance, pose_errors, summary
from perception_models.geometry import se3
from perception_nodes.commands import benchmark_scan_pairs as benchmark
from perception_nodes.scan_pairs import ScanPair, drive_pairs, published_pairs, spread_over_bands
from perception_nodes.scans import Sweep

NOTHING = np.zeros((1, 3), np.float32)


def test_errors_of_a_pose_are_metres_and_degrees() -> None:
    truth = se3.from_yaw_pitch_roll(2.0, 0, 0, [5, 1, 0])
    found = truth @ se3.from_yaw_pitch_roll(0, np.radians(3), 0, [0, 0.3, 0.4])

    assert pose_errors(found, truth) == pytest.approx((0.5, 3.0))


def test_success_is_right_and_called_valid() -> None:
    good = ScanOutcome(1.0, 0.02, 0.1, True, 100)
    outcomes = [good, ScanOutcome(1, 0.02, 0.1, False, 100), ScanOutcome(8, 0.7, 0.1, True, 300)]
    outcomes += [ScanOutcome(8, 0.1, 1.6, False, 300), ScanOutcome(12, 0.1, 1.0, True, 500)]

    figures = summary(outcomes)
    bands = by_distance(outcomes)

    assert figures["success"] == pytest.approx(2 / 5)
    assert (figures["valid_but_wrong"], figures["right_but_not_valid"]) == (1, 1)
    assert figures["p50_ms"] == 300
    assert {name: row["pairs"] for name, row in bands.items()} == {
        "0 to 2.5 m": 2, "7.5 to 10 m": 2, "over 10 m": 1, "all": 5
    }  # fmt: skip
    assert bands["0 to 2.5 m"]["median_cm"] == pytest.approx(2)


def test_pairs_are_spread_over_the_distances_and_near_in_time() -> None:
    poses = [se3.make(np.eye(3), [0.5 * k, 0, 0]) for k in range(150)]
    sweeps = [Sweep(k * 10**8, NOTHING, None, pose) for k, pose in enumerate(poses)]

    pairs = spread_over_bands(sweeps, 40, np.random.default_rng(0))
    apart = np.array([abs(first - second) for first, second in pairs])

    assert len(pairs) == len(set(pairs)) == 40
    assert apart.min() >= 1
    np.testing.assert_array_equal(np.histogram(0.5 * apart, [0, 2.5, 5, 7.5, 10])[0], 10)


def test_the_truth_of_recorded_pairs_brings_their_points_together(perception_data: Path) -> None:
    pairs = [*islice(published_pairs(perception_data), 2), next(drive_pairs(perception_data, 4))]

    for pair in pairs:
        moved = se3.apply(pair.truth, pair.source[::50])
        near, _ = cKDTree(pair.target).query(moved)
        assert np.median(near) < 0.4, pair.name


class Oracle:
    """A method that knows the answer, and finds the second pair only by accident."""

    def __init__(self, pairs: list[ScanPair]) -> None:
        self._truth = {id(pair.source): pair.truth for pair in pairs}

    def prepare(self, points: np.ndarray) -> np.ndarray:
        return points

    def align(self, source: np.ndarray, target: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(transform=self._truth[id(source)], valid=len(source) > 1)


def test_every_pair_is_judged_once() -> None:
    pairs = [
        ScanPair("a", np.zeros((2, 3), np.float32), NOTHING, se3.make(np.eye(3), [3, 0, 0])),
        ScanPair("b", np.zeros((1, 3), np.float32), NOTHING, se3.make(np.eye(3), [6, 0, 0])),
    ]

    found = benchmark.align(Oracle(pairs), pairs, "test")

    assert [(one.distance, one.translation, one.valid) for one in found] == [(3, 0, True), (6, 0, False)]


def test_strangers_that_are_believed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(*_: object) -> list[tuple[str, np.ndarray, np.ndarray, str]]:
        return [("a in b", NOTHING, NOTHING, "indoor"), ("c in d", NOTHING, NOTHING, "lidar")]

    def load(*_: object, scale: str, **__: object) -> SimpleNamespace:
        return SimpleNamespace(align=lambda *_: SimpleNamespace(valid=scale == "lidar"))

    monkeypatch.setattr("perception_nodes.scan_pairs.strangers", given)
    monkeypatch.setattr("perception_models.registration.Registrar.load", load)
    arguments = Namespace(data=Path(), strangers=2, variant="classical", threads=1)

    assert benchmark.believed_strangers(arguments) == ["c in d"]
