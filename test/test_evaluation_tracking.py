# SPDX-License-Identifier: Apache-2.0
"""Figures of tracking against closed forms and against a slow reference; the one-pass run against its rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from perception_models.evaluation import one_pass, tracking
from perception_models.evaluation.one_pass import Answer, LabelledScan, Target
from perception_models.geometry import se3
from perception_models.geometry.boxes import iou_3d

CAR = np.array([10.0, 0, 0, 4, 2, 1.5, 0])


def result(**columns) -> tracking.TrackResult:
    """A result of which only some columns matter."""
    count = len(next(iter(columns.values())))
    default = {
        "seconds": np.arange(count) * 0.1,
        "overlap": np.ones(count),
        "distance": np.zeros(count),
        "other": np.zeros(count),
        "lost": np.zeros(count, bool),
        "points": np.full(count, 100),
    }
    given = {name: np.asarray(values) for name, values in columns.items()}
    return tracking.TrackResult("1", "car", **{**default, **given})


def slow_area(values: list[float], thresholds: list[float], reached) -> float:
    shares = [sum(reached(value, threshold) for value in values) / len(values) for threshold in thresholds]
    width = 1 / (len(thresholds) - 1)
    return 100 * sum(width * (a + b) / 2 for a, b in zip(shares[:-1], shares[1:], strict=True))


def test_a_perfect_track_scores_one_hundred() -> None:
    assert tracking.success(np.ones(7)) == pytest.approx(100)
    assert tracking.precision(np.zeros(7)) == pytest.approx(100)


def test_constant_errors_score_the_area_of_their_step() -> None:
    # An overlap of 0.53 reaches the thresholds up to 0.50: ten whole steps of 0.05 and half of the next one.
    assert tracking.success(np.full(9, 0.53)) == pytest.approx(52.5)
    # 0.73 m is within the thresholds from 0.8 m on: 12 whole steps of 0.1 m, and half of the one before.
    assert tracking.precision(np.full(9, 0.73)) == pytest.approx(62.5)
    assert tracking.precision(np.full(9, np.inf)) == 0


def test_both_areas_equal_the_slow_reference() -> None:
    rng = np.random.default_rng(3)
    overlaps, distances = rng.uniform(0, 1, 200), rng.exponential(1.0, 200)
    steps = [step / 20 for step in range(21)]
    slow = slow_area(overlaps.tolist(), steps, lambda value, threshold: value >= threshold)
    assert tracking.success(overlaps) == pytest.approx(slow)
    slow = slow_area(distances.tolist(), [2 * step for step in steps], lambda value, threshold: value <= threshold)
    assert tracking.precision(distances) == pytest.approx(slow)


def test_scans_weigh_the_same_not_tracks() -> None:
    long, short = result(overlap=np.ones(30)), result(overlap=np.zeros(10))
    figures = tracking.summarize([long, short])
    # Where nothing overlaps, the threshold 0 is reached all the same: half of one step of twenty.
    assert figures["success"] == pytest.approx((30 * 100 + 10 * 2.5) / 40)
    assert figures["scans"] == 40 and figures["tracks"] == 2 and figures["never_lost"] == 50


def test_another_object_is_wrong_only_while_it_is_claimed() -> None:
    one = result(overlap=[1, 0.2, 0.2, 0], other=[0, 0.3, 0.3, 0.0], lost=[False, False, True, False])
    assert one.wrong.tolist() == [False, True, False, False]
    assert one.followed.tolist() == [True, True, False, False]
    assert tracking.summarize([one])["wrong_object"] == 25


def test_time_until_loss_ends_with_the_first_scan_that_is_not_followed() -> None:
    assert tracking.time_until_loss(result(overlap=[1, 0.8, 0, 0.8])) == pytest.approx(0.2)
    assert tracking.time_until_loss(result(overlap=[1, 0.8, 0.8], lost=[False, True, False])) == pytest.approx(0.1)
    assert tracking.time_until_loss(result(overlap=np.ones(8))) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([50] * 5 + [0] * 10 + [50] * 12, [(5, 15)]),
        ([50] * 5 + [0] * 2 + [50] * 12, []),  # a flicker
        ([50] * 5 + [0] * 4 + [5] * 4 + [50] * 12, [(5, 13)]),  # not shown until enough of it is
        ([50] * 5 + [0] * 10, []),  # never shown again
        ([50] * 5 + [0] * 10 + [50] * 3, []),  # too short in sight to be taken up
    ],
)
def test_occlusions_begin_hidden_and_end_in_sight(points: list[int], expected: list) -> None:
    seconds = np.arange(len(points)) * 0.1
    assert tracking.occlusions(np.array(points), seconds) == expected


def test_what_holds_a_second_after_an_occlusion_is_its_outcome() -> None:
    points = [50] * 5 + [0] * 10 + [50] * 12
    right = result(points=points, overlap=[1] * 5 + [0] * 12 + [0.5] * 10)
    assert tracking.outcome_after(right, 15) == "right"
    late = result(points=points, overlap=[1] * 5 + [0] * 21 + [1])
    assert tracking.outcome_after(late, 15) == "none"
    wrong = result(points=points, overlap=[1] * 5 + [0] * 22, other=[0] * 15 + [0.6] * 12)
    assert tracking.outcome_after(wrong, 15) == "wrong"
    figures = tracking.summarize([right, late, wrong])
    assert figures["occlusions"] == 3
    assert figures["reacquired"] == pytest.approx(100 / 3) and figures["occluded_wrong"] == pytest.approx(100 / 3)


def test_bands_of_points_leave_out_the_scan_that_was_given() -> None:
    bands = tracking.by_points([result(points=[500, 5, 20, 20], overlap=[1, 0, 1, 1], distance=[0, 9, 0, 0])])
    assert bands["0-9"] == {"scans": 1, "success": pytest.approx(2.5), "precision": 0}
    assert bands["10-49"]["scans"] == 2 and bands["10-49"]["success"] == pytest.approx(100)
    assert "200+" not in bands


# One pass


@dataclass
class State:
    box: np.ndarray
    lost: bool = False


class Copier:
    """Answers with the box that it was given, moved by what `steps` say of the world; remembers what it was told."""

    def __init__(self) -> None:
        self.boxes: dict[str, np.ndarray] = {}
        self.most = 0
        self.added: list[str] = []
        self.told: list[tuple] = []

    def add(self, identity: str, points: np.ndarray, box: np.ndarray) -> None:
        self.boxes[identity] = box
        self.added.append(identity)
        self.most = max(self.most, len(self.boxes))

    def remove(self, identity: str) -> None:
        del self.boxes[identity]

    def track(self, points, ego_motion, seconds) -> dict[str, State]:
        self.told.append((ego_motion, seconds))
        return {identity: State(box) for identity, box in self.boxes.items()}


def cloud(box: np.ndarray, count: int) -> np.ndarray:
    """Points (count, 4) in a box."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(-0.45, 0.45, (count, 3)) * box[3:6]
    return np.column_stack([box[:3] + spread, np.zeros(count)]).astype(np.float32)


def drive(counts: list[int], identity: str = "1", step: float = 0.0, pose=None) -> list[LabelledScan]:
    """Scans of one car, with so many points, that moves ahead by `step` m a scan."""
    scans = []
    for index, count in enumerate(counts):
        box = CAR + [step * index, 0, 0, 0, 0, 0, 0]
        scans.append(
            LabelledScan(0.1 * index, cloud(box, count), {identity: box}, pose and pose(index), {identity: "Car"})
        )
    return scans


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([50] * 5, (0, 4)),
        ([3, 3, 50, 50, 3], (2, 4)),  # given when enough of it is seen
        ([50, 50, 50, 0, 0], (0, 2)),  # judged as long as something of it is seen
        ([50] * 3 + [0] * 10 + [50] * 3, (0, 15)),
        ([50] * 3 + [0] * 25 + [50] * 3, (0, 2)),  # gone for more than two seconds
        ([3] * 5, None),
    ],
)
def test_targets_begin_and_end_where_they_are_seen(counts: list[int], expected: tuple | None) -> None:
    targets, points = one_pass.find_targets(drive(counts))
    assert targets == ([] if expected is None else [Target("1", "Car", *expected)])
    assert list(points["1"].values()) == counts


def test_the_first_scan_counts_with_the_given_box_and_the_rest_as_answered() -> None:
    scans = drive([50] * 6, step=0.5)
    targets, counts = one_pass.find_targets(scans)
    answers = one_pass.follow(Copier(), scans, targets)
    [found] = one_pass.judge(scans, targets, answers, counts)
    np.testing.assert_allclose(found.distance, 0.5 * np.arange(6), atol=1e-6)
    np.testing.assert_allclose(found.overlap, [(4 - s) / (4 + s) for s in 0.5 * np.arange(6)], atol=1e-6)
    assert found.seconds.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5]) and found.category == "Car"


def test_overlap_with_others_is_the_largest() -> None:
    rng = np.random.default_rng(1)
    boxes = {str(k): CAR + rng.normal(0, 1.0, 7) * [1, 1, 0.1, 0.1, 0.1, 0.1, 1] for k in range(6)}
    scans = [LabelledScan(0, cloud(CAR, 50), boxes), LabelledScan(0.1, cloud(CAR, 50), boxes)]
    box = boxes["0"] + [0.3, 0, 0, 0, 0, 0, 0]
    answers = {"0": {0: Answer(boxes["0"], False), 1: Answer(box, False)}}
    [found] = one_pass.judge(scans, [Target("0", "Car", 0, 1)], answers, {"0": {0: 50, 1: 50}})
    brute = max(float(iou_3d(box[None], boxes[str(k)][None])[0, 0]) for k in range(1, 6))
    assert found.other[1] == pytest.approx(brute) and brute > 0
    assert found.overlap[1] == pytest.approx(float(iou_3d(box[None], boxes["0"][None])[0, 0]))


def test_no_answer_counts_as_lost_and_as_a_miss() -> None:
    scans = drive([50] * 4)
    targets, counts = one_pass.find_targets(scans)
    [found] = one_pass.judge(scans, targets, {"1": {0: Answer(CAR, False)}}, counts)
    assert found.lost.tolist() == [False, True, True, True]
    assert found.overlap.tolist() == pytest.approx([1, 0, 0, 0]) and np.isinf(found.distance[1:]).all()


def test_more_targets_than_fit_take_more_runs_and_nobody_is_left_out() -> None:
    boxes = {str(k): CAR + [0, 6 * k, 0, 0, 0, 0, 0] for k in range(5)}
    points = np.concatenate([cloud(box, 30) for box in boxes.values()])
    scans = [LabelledScan(0.1 * k, points, boxes) for k in range(6)]
    targets, counts = one_pass.find_targets(scans)
    tracker = Copier()
    answers = one_pass.follow(tracker, scans, targets, at_once=2)
    assert tracker.most == 2 and sorted(tracker.added) == ["0", "1", "2", "3", "4"] and not tracker.boxes
    assert all(len(row) == 6 for row in answers.values())
    assert tracking.summarize(one_pass.judge(scans, targets, answers, counts))["success"] == pytest.approx(100)


def test_the_tracker_is_told_how_the_sensor_moved_and_how_long_it_took() -> None:
    scans = drive([50] * 3, pose=lambda index: se3.from_yaw_pitch_roll(0.1 * index, 0, 0, [2.0 * index, 0, 0]))
    tracker = Copier()
    one_pass.follow(tracker, scans, one_pass.find_targets(scans)[0])
    [(first, seconds), (second, _)] = tracker.told
    assert seconds == pytest.approx(0.1)
    np.testing.assert_allclose(first, se3.from_yaw_pitch_roll(0.1, 0, 0, [2, 0, 0]), atol=1e-9)
    # What the second scan sees at its origin stands 2 m ahead of where the first scan was, seen from its heading.
    np.testing.assert_allclose(second[:2, 3], [2 * np.cos(0.1), -2 * np.sin(0.1)], atol=1e-9)


def test_an_unknown_pose_is_told_as_such() -> None:
    scans = drive([50] * 3)
    tracker = Copier()
    one_pass.follow(tracker, scans, one_pass.find_targets(scans)[0])
    assert [ego for ego, _ in tracker.told] == [None, None]
