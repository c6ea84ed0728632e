# SPDX-License-Identifier: Apache-2.0
"""The trackers without learning follow what closed forms say, and say when they see nothing."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_models.geometry.clusters import rectangle_along
from perception_models.tracking.baselines import (
    Association,
    Blind,
    ClusterCandidates,
    DetectionCandidates,
    Separate,
)
from perception_models.tracking.kalman import ERROR, PointFilter

CAR = np.array([10.0, 4.0, -0.9, 4.2, 1.8, 1.5, 0.3])
NOTHING = np.zeros((0, 4), np.float32)
EGO = se3.from_yaw_pitch_roll(0.05, 0, 0, [0.8, 0.1, 0])  # a scan's frame in that of the scan before


def at(time: float, speed: float = 5.0) -> np.ndarray:
    """A car that drives along its heading, in the world."""
    box = CAR.copy()
    box[:2] += time * speed * np.array([np.cos(CAR[6]), np.sin(CAR[6])])
    return box


def seen(box: np.ndarray, index: int) -> np.ndarray:
    """A box of the world in the frame of scan `index`, when the sensor moves by EGO from scan to scan."""
    return transform_boxes(box[None], se3.inverse(np.linalg.matrix_power(EGO, index)))[0]


def shell(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points (600, 4) on the two sides of a box that face the sensor, and on the ground around it."""
    local = rng.uniform(-0.5, 0.5, (600, 3)) * box[3:6]
    c, s = np.cos(box[6]), np.sin(box[6])
    facing = -np.sign(np.array([[c, s], [-s, c]]) @ box[:2])
    side = rng.random(600) < 0.5
    local[side, 0], local[~side, 1] = (facing * box[3:5] / 2)[0], (facing * box[3:5] / 2)[1]
    xy = box[:2] + local[:, :2] @ np.array([[c, s], [-s, c]])
    ground = np.column_stack([box[:2] + rng.uniform(-6, 6, (4000, 2)), np.full(4000, box[2] - box[5] / 2)])
    points = np.vstack([np.column_stack([xy, box[2] + local[:, 2]]), ground])
    return np.column_stack([points, np.zeros(len(points))]).astype(np.float32)


def test_a_box_that_stands_still_moves_against_the_sensor() -> None:
    tracker = Blind()
    tracker.start(NOTHING, CAR)
    for index in range(1, 6):
        state = tracker.track(NOTHING, EGO, 0.1)
        np.testing.assert_allclose(state.box, seen(CAR, index), atol=1e-5)
    assert not state.lost


def test_a_given_velocity_is_kept_in_the_world() -> None:
    tracker = Blind(velocity=[5 * np.cos(0.3), 5 * np.sin(0.3), 0])
    tracker.start(NOTHING, CAR)
    for index in range(1, 6):
        np.testing.assert_allclose(tracker.track(NOTHING, EGO, 0.1).box, seen(at(0.1 * index), index), atol=1e-5)


def test_the_filter_is_the_least_squares_estimate_where_nothing_accelerates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perception_models.tracking.kalman.ACCELERATION", np.zeros(3))
    monkeypatch.setattr("perception_models.tracking.kalman.FIRST_SPEED", np.full(3, 1e4))
    rng = np.random.default_rng(0)
    times = 0.1 * np.arange(12)
    places = np.array([1.0, 2, 3]) + times[:, None] * [4.0, -1, 0.5] + rng.normal(0, 0.1, (12, 3))
    one = PointFilter(places[0])
    for place in places[1:]:
        one.predict(0.1)
        one.correct(place)
    slope, offset = np.polyfit(times, places, 1)
    np.testing.assert_allclose(one.mean, [*(slope * times[-1] + offset), *slope], atol=1e-3)


def test_the_surprise_of_a_place_is_its_distance_in_standard_deviations() -> None:
    one = PointFilter([0, 0, 0])
    sigma = np.sqrt(2) * ERROR[0]  # the given place and the measured one err alike
    assert one.surprise(np.array([[3 * sigma, 0, 9.0], [0, -2 * sigma, 0]])).tolist() == pytest.approx([9, 4])


def test_another_frame_changes_nothing_but_the_frame() -> None:
    one, other = PointFilter([5, 1, 0]), PointFilter([5, 1, 0])
    turn = se3.from_yaw_pitch_roll(0.7, 0, 0, [1, 2, 0.5])
    for step in range(5):
        place = np.array([5 + 0.4 * step, 1, 0])
        one.predict(0.1), one.correct(place)
        other.predict(0.1), other.correct(place)
    other.move(turn)
    np.testing.assert_allclose(other.mean[:3], se3.apply(turn, one.mean[:3]), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(other.mean[3:]), np.linalg.norm(one.mean[3:]))


def test_detections_are_followed_while_the_sensor_moves_and_others_are_left_alone() -> None:
    tracker = Association(DetectionCandidates(lambda points: boxes))
    tracker.start(NOTHING, CAR)
    for index in range(1, 20):
        boxes = np.stack([seen(at(0.1 * index) + [0, 8, 0, 0, 0, 0, 0], index), seen(at(0.1 * index), index)])
        boxes[1, 6] += np.pi * (index % 2)  # detectors take the front for the rear
        state = tracker.track(np.zeros((0, 4), np.float32), EGO, 0.1)
    np.testing.assert_allclose(state.box[:3], seen(at(1.9), 19)[:3], atol=0.15)
    assert np.cos(state.box[6] - seen(at(1.9), 19)[6]) > 0.999 and not state.lost


def test_the_car_of_a_cloud_is_followed_by_its_visible_sides() -> None:
    rng = np.random.default_rng(2)
    tracker = Association(ClusterCandidates(), heading_from_motion=True)
    tracker.start(NOTHING, CAR)
    for index in range(1, 15):
        state = tracker.track(shell(seen(at(0.1 * index), index), rng), EGO, 0.1)
    np.testing.assert_allclose(state.box[:3], seen(at(1.4), 14)[:3], atol=0.3)
    assert np.cos(state.box[6] - seen(at(1.4), 14)[6]) > 0.99


def test_what_is_not_seen_coasts_is_called_lost_and_is_taken_up_again() -> None:
    scans = [at(0.1 * index)[None] if not 10 <= index < 18 else np.zeros((0, 7)) for index in range(25)]
    tracker = Association(DetectionCandidates(lambda points: scans[int(points[0, 0])]))
    tracker.start(NOTHING, CAR)
    states = [tracker.track(np.full((1, 4), index, np.float32)) for index in range(1, 25)]
    assert [index + 1 for index, state in enumerate(states) if state.lost] == [13, 14, 15, 16, 17]
    np.testing.assert_allclose(states[16].box[:2], at(1.7)[:2], atol=0.5)
    np.testing.assert_allclose(states[-1].box[:2], at(2.4)[:2], atol=0.2)


def test_a_scan_is_searched_once_however_many_targets_there_are() -> None:
    calls = []
    candidates = DetectionCandidates(lambda points: calls.append(1) or np.stack([at(0), at(0) + 9]))
    trackers = Separate(lambda _: Association(candidates))
    trackers.add("a", NOTHING, CAR)
    trackers.add("b", NOTHING, CAR + [9, 9, 9, 0, 0, 0, 0])
    states = trackers.track(np.zeros((5, 4), np.float32))
    assert len(calls) == 1 and list(states) == ["a", "b"] == list(trackers.targets)
    trackers.remove("a")
    with pytest.raises(ValueError, match="no target is called 'a'; there is b"):
        trackers.remove("a")
    with pytest.raises(ValueError, match="'b' is followed already"):
        trackers.add("b", NOTHING, CAR)


def test_a_rectangle_along_a_heading_touches_all_its_points() -> None:
    xy = np.random.default_rng(4).uniform(-3, 3, (40, 2))
    x, y, length, width, heading = rectangle_along(xy, 0.6)
    axes = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    local = (xy - [x, y]) @ axes.T
    np.testing.assert_allclose(np.abs(local).max(axis=0), [length / 2, width / 2])
    np.testing.assert_allclose(local.max(axis=0), -local.min(axis=0))
