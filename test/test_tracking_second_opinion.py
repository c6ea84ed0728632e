# SPDX-License-Identifier: Apache-2.0
"""A detector brings a tracker back that is lost or astray, and leaves it alone where the two agree."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.tracking.second_opinion import PATIENCE, SecondOpinion
from perception_models.tracking.state import TrackState

CLOUD = np.zeros((5, 4), np.float32)
CAR = np.array([10.0, 4.0, -0.9, 4.2, 1.8, 1.5, 0.3])
OTHER = CAR + [0, 30, 0, 0, 0, 0, 0]
BUS = CAR * [1, 1, 1, 2.5, 1.3, 2, 1]


def at(index: int) -> np.ndarray:
    """The car, which drives along x at 5 m/s."""
    return CAR + [0.5 * index, 0, 0, 0, 0, 0, 0]


class Scripted:
    """A tracker that drives on with the car, whether or not it says that it is lost."""

    def __init__(self) -> None:
        self.boxes: dict[str, np.ndarray] = {}
        self.lost, self.refuses = False, False
        self.begun: list[str] = []
        self.engine_info, self.timing = None, {"inference": 1.0}

    def add(self, identity, points, box) -> None:
        if self.refuses and self.begun:
            self.refuses = False
            raise ValueError("no point is in the box")
        self.boxes[identity] = np.array(box, float)
        self.begun.append(identity)

    def remove(self, identity) -> None:
        del self.boxes[identity]

    def track(self, points, ego_motion=None, seconds=0.1):
        for box in self.boxes.values():
            box[0] += 0.5
        return {
            i: TrackState(b.astype(np.float32), 0.4, self.lost, "hidden" * self.lost) for i, b in self.boxes.items()
        }

    def close(self) -> None:
        pass


@pytest.fixture
def pair():
    tracker = Scripted()
    opinion = SecondOpinion(tracker)
    opinion.add("1", CLOUD, CAR)
    for index in range(1, 11):
        opinion.track(CLOUD)
        assert opinion.advise(CLOUD, np.stack([at(index), OTHER])) == {}
    return tracker, opinion


def test_where_both_agree_nothing_begins_again(pair) -> None:
    tracker, opinion = pair
    assert tracker.begun == ["1"]
    opinion.track(CLOUD)
    assert opinion.advise(CLOUD, at(11) + [0.4, 0.4, 0, 0, 0, 0, 0]) == {}


def test_a_lost_target_begins_again_where_the_detector_sees_its_like(pair) -> None:
    tracker, opinion = pair
    tracker.lost = True
    opinion.track(CLOUD)
    assert opinion.advise(CLOUD, np.stack([OTHER, BUS + [5.5, 0, 0, 0, 0, 0, 0]])) == {}  # too far; too large
    seen = at(11) + [0.5, 0.2, 0.1, 0.3, -0.1, 0, np.pi]  # another size, and front taken for rear
    state = opinion.advise(CLOUD, seen)["1"]
    assert not state.lost and state.score >= 0.5 and state.reason == ""
    np.testing.assert_allclose(state.box, [*seen[:3], *CAR[3:]], atol=1e-5)
    np.testing.assert_allclose(tracker.boxes["1"], [*seen[:3], *CAR[3:]], atol=1e-5)


def test_one_opinion_against_a_tracker_that_sees_is_not_enough(pair) -> None:
    tracker, opinion = pair
    beside = [0, 1.3, 0, 0, 0, 0, 0]
    for index in range(11, 11 + PATIENCE):
        opinion.track(CLOUD)
        begun = opinion.advise(CLOUD, at(index) + beside)
        assert bool(begun) == (index == 10 + PATIENCE)
    np.testing.assert_allclose(tracker.boxes["1"][1], CAR[1] + 1.3, atol=1e-5)


def test_a_neighbour_does_not_take_the_place_of_what_the_detector_misses(pair) -> None:
    tracker, opinion = pair
    for index in range(11, 20):
        opinion.track(CLOUD)
        assert opinion.advise(CLOUD, at(index) + [0, 2.4, 0, 0, 0, 0, 0]) == {}


def test_late_advice_is_moved_on_by_the_target_s_velocity(pair) -> None:
    tracker, opinion = pair
    tracker.lost = True
    opinion.track(CLOUD)
    state = opinion.advise(CLOUD, at(9), late=0.2)["1"]  # seen two scans before
    np.testing.assert_allclose(state.box[:2], at(11)[:2], atol=0.15)


def test_where_it_cannot_begin_the_target_goes_on_as_it_was(pair) -> None:
    tracker, opinion = pair
    tracker.lost, tracker.refuses = True, True
    before = opinion.track(CLOUD)["1"]
    assert opinion.advise(CLOUD, at(11)) == {} and opinion.targets == ("1",)
    np.testing.assert_allclose(tracker.boxes["1"], before.box)


def test_targets_come_and_go_as_those_of_the_tracker(pair) -> None:
    tracker, opinion = pair
    opinion.add("2", CLOUD, OTHER)
    assert opinion.targets == ("1", "2") and set(opinion.track(CLOUD)) == {"1", "2"}
    opinion.remove("1")
    assert opinion.targets == ("2",) and list(tracker.boxes) == ["2"]
    assert opinion.advise(CLOUD, np.zeros((0, 7))) == {}
