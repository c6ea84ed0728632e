# SPDX-License-Identifier: Apache-2.0
"""Rooms agree with their truth: walls, views of one another, instances, determinism; paths keep clear of things."""

import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from perception_models.geometry import se3
from perception_models.geometry.cameras import project, unproject
from perception_models.simulation.camera_path import sample_path
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_catalogue import PROCEDURAL
from perception_models.simulation.room_drive import simulate_room
from perception_models.simulation.room_layout import drop
from perception_models.simulation.room_light import Light
from perception_models.simulation.room_looks import Looks
from perception_models.simulation.room_mesh import Skin, Thing, assemble
from perception_models.simulation.room_shell import Plan
from perception_models.simulation.rooms import Room, sample_room
from perception_models.simulation.shapes import Material, box
from perception_models.simulation.textured_obj import read_textured

SMALL = KINECT.scaled(0.25)
EXACT = replace(SMALL, noise=0.0)
LEVEL = se3.make([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [0.0, 0.0, 0.0])  # the camera looks along x


def room_of(*things: Thing) -> Room:
    """A room that is nothing but these things, evenly lit."""
    mesh = assemble(things)
    looks = Looks.sample(np.random.default_rng(0), mesh.surfaces, plainness=1.0)
    return Room(Plan(4.0, 4.0, 2.5), mesh, looks, (Light(np.zeros(3, np.float32), np.ones(3, np.float32)),))


def cube(x: float, y: float, instance: int) -> Thing:
    return Thing(box((0.4, 0.4, 0.4), (x, y, 0.0), Material.CLOTH), instance)


@pytest.fixture(scope="module")
def room() -> Room:
    return sample_room(np.random.default_rng(4))


@pytest.fixture(scope="module")
def path(room: Room) -> NDArray[np.float64]:
    return sample_path(room, np.random.default_rng(5), 300)


def test_depth_of_a_slanted_wall_is_where_rays_meet_its_plane() -> None:
    wall = Thing(box((0.1, 20.0, 20.0), (2.05, 0.0, 0.0), Material.WALL).moved(yaw=0.5))
    view = room_of(wall).render(LEVEL, EXACT, np.random.default_rng(0), color=False)
    normal = LEVEL[:3, :3].T @ [np.cos(0.5), np.sin(0.5), 0.0]
    expected = (2.0 / (EXACT.rays() @ normal)).reshape(view.true_depth.shape)
    np.testing.assert_allclose(view.true_depth, expected, rtol=1e-4)
    np.testing.assert_array_equal(view.frame.depth, np.where(expected < 4.5, view.true_depth, 0))


def test_instances_tell_two_boxes_and_the_building_apart() -> None:
    back = Thing(box((0.1, 9.0, 9.0), (3.0, 0.0, 0.0), Material.WALL))
    view = room_of(back, cube(2.0, 0.5, 1), cube(2.0, -0.5, 2)).render(LEVEL, EXACT, np.random.default_rng(0))
    points = unproject(view.true_depth, EXACT.matrix) @ LEVEL[:3, :3].T.astype(np.float32)
    assert set(np.unique(view.instances)) == {0, 1, 2}
    assert (points[view.instances == 1][:, 1] > 0.29).all() and (points[view.instances == 2][:, 1] < -0.29).all()
    assert (points[view.instances == 0][:, 0] > 2.9).all()


def test_a_surface_looks_the_same_from_two_places(room: Room, path: NDArray[np.float64]) -> None:
    camera, rng = replace(KINECT.scaled(0.5), noise=0.0), np.random.default_rng(0)
    first, second = (room.render(path[index], camera, rng) for index in (0, 6))
    pixels, depth = _seen_again(first.true_depth, path[0], second.true_depth, path[6], camera.matrix)
    same = depth < 0.02
    gray, other = (view.frame.rgb.mean(axis=2) for view in (first, second))
    there = other[pixels[..., 1], pixels[..., 0]][same]
    assert same.mean() > 0.6
    assert np.corrcoef(gray[same], there)[0, 1] > 0.85


def _seen_again(
    depth: NDArray[np.float32],
    pose: NDArray[np.float64],
    other_depth: NDArray[np.float32],
    other_pose: NDArray[np.float64],
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels (H, W, 2) of another view that show the same places, and by how much [m] their depth differs."""
    moved = se3.apply(se3.inverse(other_pose) @ pose, unproject(depth, matrix).astype(np.float64))
    pixels = np.nan_to_num(project(moved, matrix), nan=-1)
    height, width = depth.shape
    inside = ((pixels >= 0) & (pixels <= [width - 1, height - 1])).all(-1) & (depth > 0)
    rounded = np.clip(np.rint(pixels), 0, [width - 1, height - 1]).astype(np.int64)
    difference = np.abs(other_depth[rounded[..., 1], rounded[..., 0]] - moved[..., 2])
    return rounded, np.where(inside, difference, np.inf)


def test_true_depth_of_one_view_agrees_with_the_next(room: Room, path: NDArray[np.float64]) -> None:
    first, second = (room.render(path[i], EXACT, np.random.default_rng(0), color=False).true_depth for i in (100, 104))
    _, difference = _seen_again(first, path[100], second, path[104], EXACT.matrix)
    seen = np.isfinite(difference)
    assert seen.mean() > 0.5
    assert np.median(difference[seen]) < 0.01


def test_a_seed_is_one_room_and_one_walk() -> None:
    first, second = (list(simulate_room(3, 3, SMALL)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.frame.rgb, b.frame.rgb)
        np.testing.assert_array_equal(a.frame.depth, b.frame.depth)
        np.testing.assert_array_equal(a.frame.pose, b.frame.pose)
    walked = next(simulate_room(3, 3, SMALL, walk=1))
    assert not np.array_equal(first[0].frame.pose, walked.frame.pose)


def test_truth_does_not_depend_on_noise_or_colour(room: Room, path: NDArray[np.float64]) -> None:
    plain = room.render(path[0], EXACT, np.random.default_rng(0), color=False)
    noisy = room.render(path[0], SMALL, np.random.default_rng(1))
    np.testing.assert_array_equal(plain.true_depth, noisy.true_depth)
    np.testing.assert_array_equal(plain.instances, noisy.instances)
    assert not plain.frame.rgb.any() and noisy.frame.rgb.std() > 5


@pytest.mark.parametrize("handheld", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_path_keeps_inside_and_clear_of_everything(seed: int, handheld: bool) -> None:
    room = sample_room(np.random.default_rng(seed))
    poses = sample_path(room, np.random.default_rng(seed), 240, handheld=handheld)
    places = poses[:, :3, 3]
    assert room.plan.holds(places[:, 0], places[:, 1], 0.1).all()
    steps = np.diff(places, axis=0)
    length = np.linalg.norm(steps, axis=1)
    ahead = room.cast(places[:-1], steps / np.maximum(length, 1e-9)[:, None]).distance
    assert (ahead[length > 1e-6] > length[length > 1e-6]).all()  # nothing stands between one place and the next
    assert length.max() * 30 < 2.0
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (240, 1, 1)), atol=1e-9
    )
    if not handheld:
        assert np.ptp(places[:, 2]) < 1e-9


def test_clutter_rests_on_what_is_below_it_and_keeps_apart() -> None:
    floor = Thing(box((4.0, 4.0, 0.1), (2.0, 2.0, -0.05), Material.ASPHALT))
    top = Thing(box((1.5, 1.5, 0.05), (2.0, 2.0, 0.725), Material.PAINT), 1)
    lying = drop(Plan(4.0, 4.0, 2.5), [floor, top], np.random.default_rng(0), PROCEDURAL, 20)
    assert len(lying) > 5
    assert len({thing.instance for thing in lying} | {0, 1}) == len(lying) + 2
    for thing in lying:
        bottom = thing.mesh.vertices[:, 2].min()
        assert min(abs(bottom - 0.75), abs(bottom)) < 0.015
    sample = [thing.mesh.vertices[thing.mesh.faces].mean(axis=1) for thing in lying]
    for index, points in enumerate(sample):
        others = np.concatenate(sample[:index] + sample[index + 1 :])
        assert cKDTree(others).query(points)[0].min() > 0.002


def test_a_skin_takes_the_corners_of_faces_to_their_places_in_its_image() -> None:
    mesh = box((1.0, 0.6, 0.4), (0.2, 0.1, 0.3), Material.PAINT).moved(1.0, 2.0, 0.5, 0.7)
    uv = np.random.default_rng(0).uniform(-2, 2, (len(mesh.faces), 3, 2)).astype(np.float32)
    image = np.full((8, 8, 3), 200, np.uint8)
    skin = Skin(uv, np.zeros(len(mesh.faces), np.int64), np.ones((1, 3), np.float32), (image,))
    scene = assemble([cube(0.0, 0.0, 1), Thing(mesh, 2, skin)])
    own = scene.instances == 2
    corners = scene.vertices[scene.faces[own]]
    map_ = scene.texture_map[own]
    places = np.einsum("fij,fkj->fki", map_[..., :3], corners) + map_[:, None, :, 3]
    np.testing.assert_allclose(places, uv, atol=1e-4)
    assert list(scene.surfaces.skins.values())[0][1] is image


def test_an_obj_model_keeps_its_paint(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 2] = 255  # red, as OpenCV orders it
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.writestr("m/a.obj", OBJ)
        archive.writestr("m/a.mtl", "newmtl plain\nKd 0.1 0.2 0.3\nnewmtl printed\nKd 0 0 0\nmap_Kd a.png\n")
        archive.writestr("m/a.png", cv2.imencode(".png", image)[1].tobytes())
    with zipfile.ZipFile(tmp_path / "models.zip") as archive:
        mesh, skin = read_textured(archive, "m/a.obj")
    np.testing.assert_array_equal(mesh.vertices[1], [3, 1, 2])  # x y z of the file is y z x here
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [1, 2, 3]])
    np.testing.assert_allclose(skin.colours[skin.paint], [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [1, 1, 1]])
    assert skin.images[skin.paint[0]] is None
    assert np.asarray(skin.images[skin.paint[2]])[0, 0].tolist() == [255, 0, 0]
    np.testing.assert_allclose(skin.uv[2], [[0.25, -0.5], [0, 0], [0, 0]])
    with zipfile.ZipFile(tmp_path / "models.zip") as archive, pytest.raises(ValueError, match="no faces"):
        read_textured(archive, "m/a.mtl")


OBJ = """mtllib a.mtl
v 0 0 0
v 1 2 3
v 0 1 0
v 0 0 1
vt 0.25 0.5
usemtl plain
f 1 2 3 4
usemtl printed
f -3/1 -2 -1
"""
