# SPDX-License-Identifier: Apache-2.0
"""A sensor found in a map that stands, and maps to and from files."""

from types import SimpleNamespace

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.registration import Registrar
from perception_models.registration.cloud_files import read_cloud
from perception_models.registration.global_map import GlobalMap, spread_out
from perception_models.registration.map_builder import MapBuilder
from perception_models.registration.odometry import Odometry
from perception_models.registration.odometry_settings import LIDAR_ODOMETRY
from perception_models.simulation.drive import simulate_drive

POINTS = np.random.default_rng(0).normal(0, 10, (50, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def drive():
    return list(simulate_drive(2, 3.0, "hdl32", motion_distortion=False))


@pytest.fixture(scope="module")
def recorded(drive):
    """A map of the drive in the frame of its world."""
    builder = MapBuilder(LIDAR_ODOMETRY.spacing / 2, step=1.0)
    for frame in drive:
        builder.add(se3.apply(frame.pose, frame.points[:, :3]).astype(np.float32), frame.pose)
    return builder


@pytest.fixture(scope="module")
def standing(recorded):
    return GlobalMap(
        recorded.points, LIDAR_ODOMETRY, Registrar.load("classical", scale="lidar"), recorded.viewpoints, tries=2
    )


def seen(frame, turn):
    """The points of a frame for a sensor that was turned on the spot, and its pose in the world."""
    pose = se3.from_yaw_pitch_roll(turn, 0, 0)
    return se3.apply(se3.inverse(pose), frame.points[:, :3]).astype(np.float32), frame.pose @ pose


def test_a_sensor_is_found_from_nothing_followed_lost_when_it_sees_another_place_and_found_again(
    drive, standing
) -> None:
    odometry = Odometry(LIDAR_ODOMETRY, map=standing)
    elsewhere = next(simulate_drive(21, 0.1, "hdl32")).points[:, :3]

    points, pose = seen(drive[5], 2.5)
    first = odometry.update(points)
    second = odometry.update(seen(drive[6], 2.5)[0])
    lost = odometry.update(elsewhere)
    points, kidnapped = seen(drive[-1], -1.0)
    again = odometry.update(points)

    assert (first.valid, first.recovered) == (True, True)
    np.testing.assert_allclose(first.pose[:3, 3], pose[:3, 3], atol=0.1)
    assert se3.rotation_angle(se3.inverse(first.pose) @ pose) < 0.01
    assert (second.valid, second.recovered) == (True, False)
    assert not lost.valid
    assert again.valid
    np.testing.assert_allclose(again.pose[:3, 3], kidnapped[:3, 3], atol=0.1)


def test_a_map_that_stands_stays_as_it_is(drive, standing) -> None:
    before = len(standing)
    odometry = Odometry(LIDAR_ODOMETRY, map=standing)
    for frame in drive[:4]:
        odometry.update(frame.points[:, :3])
    odometry.reset()

    assert len(standing) == before
    assert odometry.map is standing


class Refusing:
    """A registrar that finds nothing, and remembers where it was asked to look."""

    def __init__(self) -> None:
        self.places = []

    def prepare(self, points):
        return points

    def align_clouds(self, source, target):
        self.places.append(target.mean(axis=0))
        return SimpleNamespace(transform=np.eye(4), valid=False)


def test_every_submap_has_its_turn() -> None:
    rng, registrar = np.random.default_rng(0), Refusing()
    points = rng.uniform(0, 1, (30000, 3)).astype(np.float32) * np.float32([400, 10, 10])
    world = GlobalMap(points, LIDAR_ODOMETRY, registrar, tries=4)
    count = len(world.viewpoints)
    asked = [list(world.candidates(points, None)) for _ in range(-(-count // 4))]

    assert count > 8
    assert not any(asked)
    assert len(np.unique(np.round(registrar.places, 3), axis=0)) == count


def test_places_are_spread_out() -> None:
    places = np.random.default_rng(0).uniform(0, 20, (300, 3)).astype(np.float32)
    kept = spread_out(places, 5.0)
    apart = np.linalg.norm(kept[:, None] - kept[None], axis=2) + 99 * np.eye(len(kept))

    assert apart.min() >= 5
    assert np.linalg.norm(places[:, None] - kept[None], axis=2).min(axis=1).max() < 5


def test_a_map_of_few_points_is_refused() -> None:
    with pytest.raises(ValueError, match="50 points"):
        GlobalMap(POINTS, LIDAR_ODOMETRY, Refusing())


def test_a_saved_map_comes_back_as_it_was(tmp_path, recorded) -> None:
    path = tmp_path / "map.ply"
    count = recorded.save(path)

    back = read_cloud(path)

    np.testing.assert_array_equal(back.points, recorded.points)
    np.testing.assert_array_equal(back.viewpoints, recorded.viewpoints)
    assert count == len(back.points)
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.ply"]


def test_an_empty_map_is_not_saved(tmp_path) -> None:
    with pytest.raises(ValueError, match="no map to save"):
        MapBuilder(0.25, 1.0).save(tmp_path / "map.ply")
