# SPDX-License-Identifier: Apache-2.0
"""Simulated sweeps agree with their truth: boxes, counts, poses, occlusion, drop-out, beam tables."""

from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from perception_models.classes import VEHICLE
from perception_models.simulation import SENSORS, LidarFrame
from perception_models.simulation.drive import simulate_drive
from perception_models.simulation.light import return_probability, signal
from perception_models.simulation.sampler import FrameSampler
from perception_models.simulation.scan import Motion, scan
from perception_models.simulation.scene import Placed, assemble
from perception_models.simulation.shapes import Material, box
from perception_models.simulation.unit import Conditions, Unit
from perception_models.simulation.vehicles import make_vehicle

KINDS = ["supermini", "hatchback", "saloon", "estate", "suv", "mpv", "van", "pickup", "truck", "bus"]


@pytest.fixture(scope="module")
def frames() -> list[LidarFrame]:
    sampler = FrameSampler(3, hdl64_share=1.0, frames_per_street=2, motion_share=0.0, assets=False)
    return [sampler.sample() for _ in range(4)]


@pytest.fixture(scope="module")
def drive() -> list[LidarFrame]:
    return list(simulate_drive(5, 1.0))


def in_box_frame(points: NDArray[np.float32], box_: NDArray[np.float32]) -> NDArray[np.float64]:
    """Points (N, 3) with the box's centre as origin and its heading as x."""
    c, s = np.cos(box_[6]), np.sin(box_[6])
    offset = (points[:, :3] - box_[:3]).astype(np.float64)
    return np.asarray(offset @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))


@pytest.mark.parametrize("kind", KINDS)
def test_vehicle_body_fills_its_box(kind: str) -> None:
    for seed in range(4):
        model = make_vehicle(kind, np.random.default_rng(seed))
        length, width, height = model.size
        low, high = model.mesh.vertices.min(axis=0), model.mesh.vertices.max(axis=0)
        mirrors = 0.19  # reach beyond the body on either side at most
        np.testing.assert_allclose([low[0], high[0], low[2], high[2]], [-length / 2, length / 2, 0, height], atol=1e-4)
        assert -width / 2 - mirrors < low[1] < -width / 2 + 1e-4
        below_mirrors = model.mesh.vertices[model.mesh.vertices[:, 2] < 0.45 * height]
        np.testing.assert_allclose(np.abs(below_mirrors[:, 1]).max(), width / 2, atol=0.02)


def test_points_of_a_vehicle_lie_on_its_box(frames: list[LidarFrame]) -> None:
    checked = 0
    standing = list(simulate_drive(5, 1.0, motion_distortion=False))
    for frame in [*frames, *standing[::4]]:
        for box_, track, label in zip(frame.boxes, frame.track_ids, frame.labels, strict=True):
            inside = in_box_frame(frame.points[frame.instance == track], box_)
            # A box is upright, a bus on a slope is not: its ends leave the box by more than noise does.
            if label != VEHICLE or len(inside) < 50 or box_[3] > 6:
                continue
            beyond = np.abs(inside) - box_[3:6] / 2
            beyond[:, 1] -= 0.13 * (np.abs(inside[:, 2]) < 0.25 * box_[5])  # mirrors
            assert np.percentile(beyond.max(axis=1), 98) < 0.08
            assert np.median(beyond.max(axis=1)) > -0.75
            checked += 1
    assert checked > 20


def test_num_points_counts_the_instance_ids(frames: list[LidarFrame], drive: list[LidarFrame]) -> None:
    for frame in [*frames, drive[-1]]:
        for track, count in zip(frame.track_ids, frame.num_points, strict=True):
            assert count == np.sum(frame.instance == track)
        assert len(set(frame.track_ids.tolist())) == len(frame.track_ids)
        assert np.hypot(frame.boxes[:, 0], frame.boxes[:, 1]).max() < 60.0


def test_arrays_have_the_documented_types(frames: list[LidarFrame]) -> None:
    frame = frames[0]
    count, objects = len(frame.points), len(frame.boxes)
    assert frame.points.shape == (count, 4) and frame.points.dtype == np.float32
    assert frame.rings.shape == (count,) and frame.rings.dtype == np.uint16 and frame.rings.max() < 64
    assert frame.times.shape == (count,) and frame.times.dtype == np.float32
    assert frame.instance.shape == (count,) and frame.instance.dtype == np.int32
    assert frame.boxes.shape == (objects, 7) and frame.boxes.dtype == np.float32
    assert np.isfinite(frame.points).all() and frame.points[:, 3].min() >= 0 and frame.points[:, 3].max() <= 1
    assert (np.diff(frame.times) >= 0).all()


def test_equal_seeds_give_equal_frames_and_others_do_not() -> None:
    first, again, other = (FrameSampler(seed, assets=False).sample() for seed in (8, 8, 9))
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert first.points.shape != other.points.shape or not np.array_equal(first.points, other.points)
    one, two = (list(islice(simulate_drive(4, 1.0, "vlp16"), 2))[-1] for _ in range(2))
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.track_ids, two.track_ids)


@pytest.mark.parametrize(
    ("name", "beams", "top", "bottom"),
    [
        ("hdl64", 64, 2.0, -24.33),
        ("hdl32", 32, 10.67, -30.67),
        ("vlp16", 16, 15.0, -15.0),
        ("os1_128", 128, 22.5, -22.5),
    ],
)
def test_beam_tables_are_the_published_ones(name: str, beams: int, top: float, bottom: float) -> None:
    elevations = SENSORS[name].elevations_deg
    assert len(elevations) == beams and (np.diff(elevations) < 0).all()
    np.testing.assert_allclose([elevations[0], elevations[-1]], [top, bottom], atol=0.01)
    if name == "hdl64":
        np.testing.assert_allclose(np.diff(elevations)[:31], -1 / 3)
        np.testing.assert_allclose(np.diff(elevations)[32:], -1 / 2)


@pytest.mark.parametrize("name", list(SENSORS))
def test_returns_of_a_ring_have_its_elevation(name: str) -> None:
    """A wall all around gives every beam back at its own elevation, seen from where that beam starts."""
    lidar = SENSORS[name]
    walls = [box([40, 0.2, 40], [0, y, 0], Material.WALL) for y in (-9, 9)]
    walls += [box([0.2, 40, 40], [x, 0, 0], Material.WALL) for x in (-9, 9)]
    unit = Unit.random(lidar, np.random.default_rng(0), columns=90, conditions=Conditions(noise=0.0))
    returns = scan([assemble([Placed(w) for w in walls])], unit, Motion(np.eye(4)), np.random.default_rng(1))
    points = returns.points[:, :3].astype(np.float64)
    rise = points[:, 2] - lidar.beam_heights[returns.rings]
    elevation = np.degrees(np.arctan2(rise, np.hypot(points[:, 0], points[:, 1])))
    np.testing.assert_allclose(elevation, np.degrees(unit.elevations)[returns.rings], atol=0.01)
    assert set(returns.rings.tolist()) == set(range(lidar.beams))


def test_nothing_is_seen_behind_a_wall() -> None:
    wall = Placed(box([0.2, 30, 12], [5, 0, 0], Material.WALL))
    hidden = Placed(box([2, 2, 2], [9, 0, -1], Material.PAINT), instance=7)
    unit = Unit.random(SENSORS["hdl64"], np.random.default_rng(0))
    with_wall = scan([assemble([wall]), assemble([hidden])], unit, Motion(np.eye(4)), np.random.default_rng(1))
    without = scan([assemble([hidden])], unit, Motion(np.eye(4)), np.random.default_rng(1))
    assert not (with_wall.instance == 7).any()
    assert (without.instance == 7).sum() > 500


def test_glass_lets_its_share_of_rays_through() -> None:
    pane = box([0.02, 30, 30], [5, 0, 0], Material.GLASS)
    behind = Placed(box([0.2, 30, 30], [8, 0, 0], Material.WALL), instance=7)
    unit = Unit.random(SENSORS["hdl64"], np.random.default_rng(0), conditions=Conditions(threshold=1e-6))
    counts = {}
    for share in (0.0, 0.5, 1.0):
        scene = assemble([Placed(pane, transmission=share), behind])
        counts[share] = int((scan([scene], unit, Motion(np.eye(4)), np.random.default_rng(1)).instance == 7).sum())
    assert counts[0.0] == 0
    # A pane has two faces, each of which lets half through.
    assert counts[0.5] / counts[1.0] == pytest.approx(0.25, abs=0.02)


def test_drop_out_grows_with_incidence_and_range() -> None:
    cosine = np.cos(np.radians(np.arange(0, 90, 5))).astype(np.float32)
    reflectance, material = np.full(18, 0.1, np.float32), np.full(18, Material.PAINT, np.uint8)
    strength = signal(reflectance, cosine, material)
    near, far = (return_probability(strength, np.full(18, r, np.float32), 0.01) for r in (20.0, 60.0))
    assert (np.diff(near) <= 0).all() and (far < near).all()
    assert near[0] > 0.95 and far[-1] < 0.8 * far[0]


def test_static_world_of_two_frames_agrees(drive: list[LidarFrame]) -> None:
    """Points of facades and ground, taken to the world with pose and time of the sweep, fall on each other."""
    clouds = []
    for frame, following in zip(drive, drive[1:], strict=False):
        static = (frame.instance == -1) & (np.linalg.norm(frame.points[:, :3], axis=1) < 20)
        share = (frame.times[static] / (following.stamp - frame.stamp))[:, None]
        points = frame.points[static, :3].astype(np.float64)
        here, there = (points @ p[:3, :3].T + p[:3, 3] for p in (frame.pose, following.pose))
        clouds.append((1 - share) * here + share * there)
    assert np.linalg.norm(drive[8].pose[:3, 3] - drive[0].pose[:3, 3]) > 1.0
    assert np.median(plane_distance(clouds[0], clouds[8][::100])) < 0.02
    assert np.median(plane_distance(clouds[0], clouds[8][::100] + [0, 0, 0.1])) > 0.05


def plane_distance(surface: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each point to the plane through its ten nearest neighbours on the thinned surface."""
    surface = surface[np.unique(np.floor(surface / 0.25), axis=0, return_index=True)[1]]
    distance, index = cKDTree(surface).query(points, k=10)
    near = distance[:, -1] < 0.8
    patch = surface[index[near]]
    offset = patch - patch.mean(axis=1, keepdims=True)
    normal = np.linalg.svd(offset)[2][:, 2]
    return np.abs(np.einsum("ij,ij->i", points[near] - patch.mean(axis=1), normal))


def test_tracks_move_smoothly(drive: list[LidarFrame]) -> None:
    """An object keeps its id, label and size, and its place: two looks are at most 0.2 s apart.

    The fastest platoon cruises at 12 m/s, swings by 85 % of that and sways by 2 m/s: below 25 m/s.
    """
    seen: dict[int, tuple[NDArray[np.float64], int, NDArray[np.float32]]] = {}
    for frame in drive:
        world = frame.boxes[:, :3].astype(np.float64) @ frame.pose[:3, :3].T + frame.pose[:3, 3]
        for track, label, box_, centre in zip(frame.track_ids, frame.labels, frame.boxes, world, strict=True):
            if int(track) in seen:
                before, same_label, size = seen[int(track)]
                assert label == same_label
                np.testing.assert_array_equal(box_[3:6], size)
                assert np.linalg.norm(centre - before) < 25.0 * 0.2
            seen[int(track)] = (centre, int(label), box_[3:6])
    assert len(seen) > 5


def test_drive_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="unknown sensor 'hdl99'; choose one of hdl64"):
        simulate_drive(0, 1.0, "hdl99")
    with pytest.raises(ValueError, match="longer than 0 s"):
        simulate_drive(0, 0.0)
