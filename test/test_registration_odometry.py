# SPDX-License-Identifier: Apache-2.0
"""Odometry on simulated drives with exact truth: it follows, and says so when it cannot."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import small_gicp

from perception_models.evaluation import odometry as errors
from perception_models.geometry import se3
from perception_models.registration.deskew import deskew, middle, motion, velocity_of
from perception_models.registration.local_map import LocalMap
from perception_models.registration.odometry import Odometry
from perception_models.registration.odometry_settings import LIDAR_ODOMETRY
from perception_models.registration.scan import thinned
from perception_models.simulation.drive import simulate_drive
from perception_nodes.kitti import KittiDrive


@pytest.fixture(scope="module")
def drive():
    return list(simulate_drive(3, 3.0, "vlp16"))


@pytest.fixture(scope="module")
def elsewhere():
    return next(simulate_drive(11, 0.1, "vlp16")).points[:, :3]


def follow(odometry, frames, deskewed=True):
    return [odometry.update(f.points[:, :3], f.times if deskewed else None, f.stamp) for f in frames]


def poses_of(steps):
    return np.array([step.pose for step in steps])


def room(rng, count=20000):
    """Points on the walls, floor and ceiling of a box of 20 x 14 x 6 m around the sensor."""
    half = np.array([10.0, 7, 3])
    points = rng.uniform(-1, 1, (count, 3)) * half
    wall = rng.integers(0, 3, count)
    points[np.arange(count), wall] = np.sign(points[np.arange(count), wall]) * half[wall]
    return points.astype(np.float32)


def test_it_follows_a_drive(drive) -> None:
    steps = follow(Odometry(), drive)
    truth = np.array([frame.pose for frame in drive])

    assert all(step.valid for step in steps)
    found = errors.relative_errors(poses_of(steps), truth, 10)
    assert found[:, 0].mean() < 0.06
    assert np.degrees(found[:, 1]).mean() < 0.3
    assert errors.absolute_error(poses_of(steps), truth) < 0.05


def test_the_first_pose_is_that_at_its_stamp_though_only_the_second_scan_tells_how_it_moved(drive) -> None:
    steps = follow(Odometry(), drive[:3])
    true, found = (
        se3.inverse(first) @ last for first, last in ((drive[0].pose, drive[2].pose), (steps[0].pose, steps[2].pose))
    )

    assert true[0, 3] > 0.5
    np.testing.assert_allclose(found[:3, 3], true[:3, 3], atol=0.1)


def test_straightened_sweeps_give_better_poses_than_sweeps_as_they_come(drive) -> None:
    truth = np.array([frame.pose for frame in drive])

    straightened, raw = (poses_of(follow(Odometry(), drive, deskewed)) for deskewed in (True, False))

    assert errors.absolute_error(straightened[1:], truth[1:]) < errors.absolute_error(raw[1:], truth[1:])


def test_its_velocity_is_that_of_the_drive(drive) -> None:
    steps = follow(Odometry(), drive[:10])

    true = velocity_of(se3.inverse(drive[8].pose) @ drive[9].pose, 0.1)
    np.testing.assert_allclose(steps[9].velocity[:3], true[:3], atol=0.2)
    np.testing.assert_allclose(steps[9].velocity[3:], true[3:], atol=0.02)


def test_errors_stay_within_the_covariance(drive) -> None:
    steps = follow(Odometry(), drive)
    squares = []
    for k in range(5, len(drive)):
        true = se3.inverse(drive[k - 1].pose) @ drive[k].pose
        found = se3.inverse(steps[k - 1].pose) @ steps[k].pose
        off = velocity_of(se3.inverse(true) @ found, 1.0)
        axes = np.kron(np.eye(2), steps[k].pose[:3, :3].T)
        squares.append(off @ np.linalg.solve(axes @ steps[k].covariance @ axes.T, off))

    assert 0.1 < np.median(squares) < 12.6  # 95 % of a chi-square with six degrees of freedom


def test_straightening_undoes_the_motion_of_every_single_point() -> None:
    rng = np.random.default_rng(0)
    velocity = np.array([8.0, 1, -0.5, 0.2, -0.3, 0.9])
    times = rng.uniform(0, 0.1, 200)
    world = rng.normal(0, 20, (200, 3))
    sensors = [motion(velocity, t - middle(times)) for t in times]  # the sensor as seen from the middle of the sweep
    seen = np.array([se3.apply(se3.inverse(s), p[None])[0] for s, p in zip(sensors, world, strict=True)])

    straight = deskew(seen.astype(np.float32), times, velocity)

    np.testing.assert_allclose(straight, world, atol=1e-4)


def test_the_motion_of_a_velocity_has_that_velocity() -> None:
    velocity = np.array([8.0, 1, -0.5, 0.2, -0.3, 0.9])

    np.testing.assert_allclose(velocity_of(motion(velocity, 0.3), 0.3), velocity, atol=1e-12)


def test_times_that_are_all_the_same_tell_nothing(drive) -> None:
    with_times, without = Odometry(), Odometry()
    for frame in drive[:4]:
        points = frame.points[:, :3]
        step = with_times.update(points, np.full(len(points), 0.05), frame.stamp)
        np.testing.assert_array_equal(step.pose, without.update(points, None, frame.stamp).pose)


def test_points_that_are_not_finite_change_nothing(drive) -> None:
    clean, dirty = Odometry(), Odometry()
    for frame in drive[:4]:
        points = frame.points[:, :3]
        spoiled = np.concatenate([points, np.full((50, 3), np.nan, np.float32), np.full((5, 3), np.inf, np.float32)])
        step = dirty.update(spoiled, None, frame.stamp)
        np.testing.assert_array_equal(step.pose, clean.update(points, None, frame.stamp).pose)


@pytest.mark.parametrize("count", [0, 50])
def test_too_few_points_give_no_pose_and_do_not_end_the_run(drive, count) -> None:
    odometry = Odometry()
    follow(odometry, drive[:5])

    step = odometry.update(drive[5].points[:count, :3], None, drive[5].stamp)

    assert not step.valid
    assert np.isnan(step.pose).all()
    assert "points in range" in step.reason
    assert all(later.valid for later in follow(odometry, drive[6:9]))


def test_a_scan_of_another_place_gives_no_pose(drive, elsewhere) -> None:
    odometry = Odometry()
    follow(odometry, drive[:10])

    step = odometry.update(elsewhere, None, drive[10].stamp)

    assert not step.valid
    assert np.isnan(step.covariance).all()
    assert "map" in step.reason


def test_a_bare_plane_gives_no_pose() -> None:
    rng = np.random.default_rng(0)
    plane = rng.uniform(-30, 30, (40000, 3)).astype(np.float32)
    plane[:, 2] = rng.normal(-1.7, 0.01, len(plane))
    odometry = Odometry()
    odometry.update(plane)

    step = odometry.update(plane + np.float32([0.3, 0, 0]))

    assert not step.valid
    assert "every direction" in step.reason


def test_a_jump_beyond_the_prediction_is_bridged_by_the_coarse_voxels(drive) -> None:
    jump = se3.from_yaw_pitch_roll(0.15, 0, 0, [3.5, 0.8, 0])
    odometry = Odometry()
    points = drive[0].points[:, :3]
    for _ in range(3):
        odometry.update(points)

    step = odometry.update(se3.apply(se3.inverse(jump), points).astype(np.float32))

    assert step.valid
    np.testing.assert_allclose(step.pose, jump, atol=0.05)


class Oracle:
    """A registrar that knows the answer."""

    def __init__(self, answer, valid=True) -> None:
        self.answer, self.valid, self.asked = answer, valid, 0

    def align(self, source, target):
        self.asked += 1
        return SimpleNamespace(transform=self.answer, valid=self.valid)


def turned(drive, frame, yaw=2.0):
    """A scan of the drive after the sensor was turned on the spot, with its pose seen from the first scan."""
    turn = se3.from_yaw_pitch_roll(yaw, 0, 0)
    points = se3.apply(se3.inverse(turn), drive[frame].points[:, :3]).astype(np.float32)
    return points, se3.inverse(drive[0].pose) @ drive[frame].pose @ turn


def test_the_registrar_is_asked_only_when_the_voxels_fail_and_its_answer_is_checked(drive) -> None:
    points, pose = turned(drive, 10)
    kidnapped = [(Oracle(pose), True), (Oracle(pose @ motion(np.array([9.0, 9, 0, 0, 0, 1]), 1)), False)]
    for oracle, found in kidnapped + [(Oracle(pose, valid=False), False)]:
        odometry = Odometry(replace(LIDAR_ODOMETRY, keyframe_step=1e9), oracle)
        follow(odometry, drive[:10], deskewed=False)
        assert oracle.asked == 0

        step = odometry.update(points, None, 1.0)

        assert oracle.asked == 1
        assert (step.valid, step.recovered) == (found, found)
        assert not found or np.linalg.norm(step.pose[:3, 3] - pose[:3, 3]) < 0.6  # sweeps that were not straightened


def test_lost_stays_lost_until_a_known_place_is_seen(drive, elsewhere) -> None:
    odometry = Odometry()
    follow(odometry, drive[:10])
    lost = [odometry.update(elsewhere, None, 1.0 + 0.1 * k) for k in range(3)]

    again = odometry.update(drive[9].points[:, :3], drive[9].times, 1.5)

    assert not any(step.valid for step in lost)
    assert again.valid


def test_the_map_of_a_long_way_stays_bounded() -> None:
    cloud = thinned(room(np.random.default_rng(0)), LIDAR_ODOMETRY)
    local = LocalMap(replace(LIDAR_ODOMETRY, horizon=20))
    sizes = []
    for k in range(400):
        local.add(cloud, np.zeros((0, 3), np.float32), se3.make(np.eye(3), [5.0 * k, 0, 0]))
        sizes.append(len(local))

    assert max(sizes[100:]) <= max(sizes[:100])
    assert 0 < sizes[-1] < 31 * cloud.size()


def test_a_robot_at_rest_adds_nothing_to_its_map() -> None:
    rng, odometry = np.random.default_rng(0), Odometry()
    odometry.update(room(rng))
    before = len(odometry.map)

    steps = [odometry.update(room(rng)) for _ in range(10)]

    assert len(odometry.map) == before
    assert max(np.linalg.norm(step.pose[:3, 3]) for step in steps) < 0.02


def test_reset_starts_again_at_the_origin(drive) -> None:
    odometry = Odometry()
    follow(odometry, drive[:5])
    odometry.reset()

    np.testing.assert_array_equal(follow(odometry, drive[5:6])[0].pose, np.eye(4))
    assert follow(odometry, drive[6:7])[0].valid


def test_what_cannot_be_a_scan_is_refused(drive) -> None:
    odometry = Odometry()
    points = drive[0].points[:, :3]
    odometry.update(points, None, 1.0)

    for stamp in (1.0, 0.5, np.nan):
        with pytest.raises(ValueError, match="not after the last one"):
            odometry.update(points, None, stamp)
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        odometry.update(drive[0].points, None, 2.0)
    with pytest.raises(ValueError, match="finite seconds"):
        odometry.update(points, np.full(len(points), np.nan), 2.0)


def test_on_a_real_drive_it_agrees_with_scan_to_scan_registration(perception_data) -> None:
    folder = perception_data / "kitti/2011_09_26/2011_09_26_drive_0005_sync"
    if not folder.is_dir():
        pytest.skip(f"drive 0005 is not in {perception_data}")
    scans = [scan.points[:, :3] for _, scan in zip(range(25), KittiDrive(folder), strict=False)]
    odometry, last, chained, step = Odometry(), None, [np.eye(4)], np.eye(4)
    poses = [odometry.update(scan).pose for scan in scans]
    for scan in scans:
        cloud, tree = small_gicp.preprocess_points(scan.astype(np.float64), 0.25)
        if last is not None:
            step = small_gicp.align(last[0], cloud, last[1], init_T_target_source=step).T_target_source
            chained.append(chained[-1] @ step)
        last = cloud, tree

    found = errors.relative_errors(np.array(poses), np.array(chained), 10)

    assert found[:, 0].mean() < 0.05
    assert np.degrees(found[:, 1]).mean() < 0.15
