# SPDX-License-Identifier: Apache-2.0
"""The trackers on a simulated drive, with the committed weights: follow, refuse, lose, take up again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.geometry.boxes import iou_3d
from perception_models.simulation.drive import simulate_drive
from perception_models.simulation.frame import LidarFrame
from perception_models.tracking import MultiTracker, Tracker


@pytest.fixture(scope="module")
def drive() -> list[LidarFrame]:
    return list(simulate_drive(901, 2.0, motion_distortion=False, people=2.0))


@pytest.fixture(scope="module")
def loaded() -> Iterator[MultiTracker]:
    tracker = MultiTracker.load(threads=1)
    yield tracker
    tracker.close()


@pytest.fixture
def tracker(loaded: MultiTracker) -> MultiTracker:
    return MultiTracker(loaded.engine, loaded.settings)


def ego(frames: list[LidarFrame], index: int) -> np.ndarray:
    return se3.inverse(frames[index - 1].pose) @ frames[index].pose


def truth(frame: LidarFrame, identity: int) -> np.ndarray:
    return frame.boxes[frame.track_ids == identity][0]


def well_seen(frames: list[LidarFrame], label: int, fewest: int) -> list[int]:
    """Objects of a class with so many points in every scan, those with most points first."""
    counts = {
        int(identity): min(
            (int(f.num_points[f.track_ids == identity][0]) if identity in f.track_ids else 0) for f in frames
        )
        for identity in frames[0].track_ids[frames[0].labels == label]
    }
    return sorted((k for k, count in counts.items() if count >= fewest), key=lambda k: -counts[k])


@pytest.mark.parametrize("label", [0, 1])
def test_objects_are_followed_with_and_without_ego_motion(
    tracker: MultiTracker, drive: list[LidarFrame], label: int
) -> None:
    chosen = well_seen(drive, label, 25)[:3]
    assert chosen
    for known in (True, False) if label == 0 else (True,):
        for identity in chosen:
            tracker.add(str(identity), drive[0].points, truth(drive[0], identity))
        for index in range(1, len(drive)):
            states = tracker.track(drive[index].points, ego(drive, index) if known else None)
        overlaps = [iou_3d(states[str(k)].box[None], truth(drive[-1], k)[None])[0, 0] for k in chosen]
        assert np.mean(overlaps) > 0.6 and not any(state.lost for state in states.values())
        assert all(state.score > 0.5 and state.box.dtype == np.float32 for state in states.values())
        for identity in chosen:
            tracker.remove(str(identity))


def test_several_targets_are_followed_as_each_alone(tracker: MultiTracker, drive: list[LidarFrame]) -> None:
    chosen = well_seen(drive, 0, 60)[:3]
    for identity in chosen:
        tracker.add(str(identity), drive[0].points, truth(drive[0], identity))
    together = tracker.track(drive[1].points, ego(drive, 1))
    for identity in chosen:
        alone = MultiTracker(tracker.engine, tracker.settings)
        alone.add("x", drive[0].points, truth(drive[0], identity))
        state = alone.track(drive[1].points, ego(drive, 1))["x"]
        np.testing.assert_allclose(state.box, together[str(identity)].box, atol=1e-3)


def test_a_hidden_object_is_lost_and_taken_up_again(tracker: MultiTracker, drive: list[LidarFrame]) -> None:
    identity = well_seen(drive, 0, 60)[0]
    tracker.add("car", drive[0].points, truth(drive[0], identity))
    lost = []
    for index in range(1, len(drive)):
        frame = drive[index]
        points = frame.points[frame.instance != identity] if 6 <= index < 12 else frame.points
        state = tracker.track(points, ego(drive, index))["car"]
        lost.append(state.lost)
        if state.lost:
            assert state.reason and np.isfinite(state.box).all()
    # What hides an object casts a shadow of its own; here only the points are gone, which is harder to tell.
    assert sum(lost[5:11]) >= 4 and not any(lost[:5]) and not lost[-1]
    assert np.linalg.norm(state.box[:3] - truth(drive[-1], identity)[:3]) < 0.5


def test_nothing_is_seen_in_an_empty_scan(tracker: MultiTracker, drive: list[LidarFrame]) -> None:
    identity = well_seen(drive, 0, 60)[0]
    tracker.add("car", drive[0].points, truth(drive[0], identity))
    state = tracker.track(np.zeros((0, 3), np.float32))["car"]
    assert state.lost and state.score == 0.0 and np.isfinite(state.box).all()


def test_two_targets_do_not_share_an_object(tracker: MultiTracker, drive: list[LidarFrame]) -> None:
    identity = well_seen(drive, 0, 60)[0]
    box = truth(drive[0], identity)
    tracker.add("one", drive[0].points, box)
    tracker.add("two", drive[0].points, box + np.float32([0.1, 0, 0, 0, 0, 0, 0]))
    states = tracker.track(drive[1].points, ego(drive, 1))
    assert sorted(state.lost for state in states.values()) == [False, True]
    assert any("another target" in state.reason for state in states.values())


BAD = {
    "nan": ([np.nan, 0, 0, 4, 2, 2, 0], "not finite"),
    "flat": ([8, 0, 0, 4, 0, 2, 0], "sides of"),
    "huge": ([8, 0, 0, 400, 2, 2, 0], "sides of"),
    "short": ([8, 0, 0, 4, 2, 2], "7 values"),
    "empty": ([8, 0, 90, 4, 2, 2, 0], "no point of the scan"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_start_is_refused_and_the_others_go_on(tracker: MultiTracker, drive: list[LidarFrame], name: str) -> None:
    identity = well_seen(drive, 0, 60)[0]
    tracker.add("car", drive[0].points, truth(drive[0], identity))
    box, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        tracker.add("bad", drive[0].points, np.array(box, np.float32))
    assert tracker.targets == ("car",)
    assert not tracker.track(drive[1].points, ego(drive, 1))["car"].lost


def test_names_and_room_are_checked(tracker: MultiTracker, drive: list[LidarFrame]) -> None:
    box = truth(drive[0], well_seen(drive, 0, 60)[0])
    tracker.add("0", drive[0].points, box)
    with pytest.raises(ValueError, match="'0' is followed already"):
        tracker.add("0", drive[0].points, box)
    with pytest.raises(ValueError, match="no target is called 'x'; there is 0"):
        tracker.remove("x")
    for number in range(1, tracker.settings.capacity):
        tracker.add(str(number), drive[0].points, box)
    with pytest.raises(ValueError, match="no room"):
        tracker.add("more", drive[0].points, box)


def test_bad_scans_and_motions_are_refused(tracker: MultiTracker, drive: list[LidarFrame]) -> None:
    with pytest.raises(ValueError, match="float array"):
        tracker.track(np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match="ego_motion"):
        tracker.track(drive[0].points, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="seconds"):
        tracker.track(drive[0].points, None, 0.0)
    assert tracker.track(drive[0].points) == {}


def test_points_that_are_not_finite_change_nothing(tracker: MultiTracker, drive: list[LidarFrame]) -> None:
    box = truth(drive[0], well_seen(drive, 0, 60)[0])
    boxes = []
    for points in (drive[1].points, np.vstack([np.full((50, 4), np.nan, np.float32), drive[1].points])):
        single = Tracker(MultiTracker(tracker.engine, tracker.settings))
        with pytest.raises(ValueError, match="call start"):
            single.track(points)
        single.start(drive[0].points, box)
        boxes.append(single.track(points, ego(drive, 1)).box)
        assert single.timing.keys() == {"crop", "preprocess", "inference", "postprocess"}
    np.testing.assert_array_equal(*boxes)
