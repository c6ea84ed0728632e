# SPDX-License-Identifier: Apache-2.0
"""Maps of images without depth, with and without poses: images are found in them where the simulator took them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception_models.evaluation.relocalization import pose_errors
from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix, RgbdFrame, camera_matrix, project
from perception_models.relocalization import SceneMap
from perception_models.relocalization.depth import lift
from perception_models.relocalization.features import Features, Floats, load_extractor
from perception_models.relocalization.fix import find
from perception_models.relocalization.matching import Query
from perception_models.relocalization.segments import end_depths
from perception_models.relocalization.settings import FixSettings, MapSettings
from perception_models.relocalization.views import View, observe
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_drive import simulate_room

FRAMES = 20
QUERIES = range(2, FRAMES, 5)
UNKNOWN = np.full((4, 4), np.nan)  # a pose
SIZE = (640, 480)
CAMERA = camera_matrix(500.0, *SIZE)


@pytest.fixture(scope="module")
def views() -> list[View]:
    """A walk through a room, three images a second, at half of the size to save time."""
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    frames = [view.frame for view in simulate_room(1, FRAMES, KINECT.scaled(0.75), rate=3.0)]
    extractor = load_extractor("rootsift")
    return [observe(frame, extractor, lines=True) for frame in frames]


@pytest.fixture(scope="module")
def walk() -> list[View]:
    """Views of 600 points that all can be told apart, from a camera that walks around them and looks at them, with
    half a pixel of noise. COLMAP must find the poses; simulated rooms have too few corners for that."""
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    rng = np.random.default_rng(0)
    points = rng.uniform(-2, 2, (600, 3))
    descriptors = rng.normal(size=(600, 128)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    angles = np.linspace(0, 1.5, 16)
    return [_view_of(points, descriptors, _looking_at_origin(angle), rng) for angle in angles]


def _looking_at_origin(angle: float) -> Matrix:
    """A camera (4, 4) 6 m away in the plane z = 0 of a world whose z points up."""
    forward = -np.array([np.cos(angle), np.sin(angle), 0])
    down = np.array([0, 0, -1.0])
    return se3.make(np.stack([np.cross(down, forward), down, forward], axis=1), -6 * forward)


def _view_of(points: Matrix, descriptors: Matrix, pose: Matrix, rng: np.random.Generator) -> View:
    seen = se3.apply(se3.inverse(pose), points)
    pixels = project(seen, CAMERA) + rng.normal(0, 0.5, (len(points), 2))
    inside = ((pixels >= 0) & (pixels < SIZE)).all(axis=1)
    features = Features(
        pixels[inside].astype(np.float32), np.ones(inside.sum(), np.float32), descriptors[inside], NoDense()
    )
    return View(features, seen[inside, 2].astype(np.float32), CAMERA, pose, SIZE)


class NoDense:
    """Descriptors between key points, of which there are none."""

    def sample(self, points: Floats) -> Floats:
        raise NotImplementedError("no lines here")


def without_depth(views: list[View]) -> list[View]:
    """The views that make the map, without depth."""
    return [replace(bare(view), pose=view.pose) for number, view in enumerate(views) if number not in QUERIES]


def bare(view: View) -> View:
    """A view without pose and depth."""
    segments = view.segments
    if segments is not None:
        segments = replace(segments, depth=np.full_like(segments.depth, np.nan))
    return replace(view, pose=UNKNOWN, depth=np.full_like(view.depth, np.nan), segments=segments)


def found_in(scene_map: SceneMap, views: list[View]) -> list[Matrix]:
    queries = [Query(views[n].features, views[n].camera_matrix, views[n].size) for n in QUERIES]
    return [find(query, scene_map.landmarks, FixSettings()).pose for query in queries]


def similarity(found: Matrix, truth: Matrix) -> tuple[float, Matrix]:
    """Scale and rigid transform (4, 4) that take poses (N, 4, 4) to the true ones: rotation, then least squares."""
    rotation = se3.nearest_rotation(np.einsum("nij,nkj->ik", truth[:, :3, :3], found[:, :3, :3]))
    here, there = found[:, :3, 3] @ rotation.T, truth[:, :3, 3]
    spread = here - here.mean(0)
    scale = float((spread * (there - there.mean(0))).sum() / (spread**2).sum())
    return scale, se3.make(rotation, there.mean(0) - scale * here.mean(0))


def moved(pose: Matrix, scale: float, transform: Matrix) -> Matrix:
    return transform @ se3.make(pose[:3, :3], scale * pose[:3, 3])


def test_images_with_poses_make_a_map_in_metres(views: list[View]) -> None:
    scene_map = SceneMap.from_views(without_depth(views), "rootsift", check=False)
    errors = pose_errors(found_in(scene_map, views), [views[n].pose for n in QUERIES])
    assert scene_map.is_metric
    assert np.median(errors[:, 0]) < 2.0 and np.median(errors[:, 1]) < 0.5, errors


def test_images_alone_make_a_map_of_the_right_shape_that_says_it_has_no_scale(walk: list[View]) -> None:
    scene_map = SceneMap.from_views([bare(view) for view in walk[::2]], "rootsift", check=False)
    assert not scene_map.is_metric
    poses, truth = scene_map.landmarks.poses, np.stack([view.pose for view in walk])
    assert len(poses) == len(truth[::2])  # all were placed
    scale, transform = similarity(poses, truth[::2])
    queries = [Query(view.features, view.camera_matrix, view.size) for view in walk[1::2]]
    found = [find(query, scene_map.landmarks, FixSettings()).pose for query in queries]
    errors = pose_errors([moved(pose, scale, transform) for pose in found], list(truth[1::2]))
    assert errors[:, 0].max() < 2.0 and errors[:, 1].max() < 0.5, errors


def test_depth_gives_a_map_without_poses_its_scale(walk: list[View]) -> None:
    scene_map = SceneMap.from_views([replace(view, pose=UNKNOWN) for view in walk[::2]], "rootsift", check=False)
    scale, _ = similarity(scene_map.landmarks.poses, np.stack([view.pose for view in walk[::2]]))
    assert scene_map.is_metric and scale == pytest.approx(1.0, abs=0.01)


def test_lines_of_two_views_are_where_depth_says(views: list[View]) -> None:
    """Segments that were triangulated lie near the plane of depth that the camera measured at their ends."""
    settings = MapSettings(lines=True)
    triangulated = SceneMap.from_views(without_depth(views), "rootsift", settings, check=False).landmarks.lines
    chosen = [view for number, view in enumerate(views) if number not in QUERIES]
    measured = SceneMap.from_views(chosen, "rootsift", settings, check=False).landmarks.lines
    assert len(triangulated) > 10
    gaps = [distance_to_lines(ends.mean(0), measured.ends) for ends in triangulated.ends]
    assert np.median(gaps) < 0.05, gaps


def distance_to_lines(point: Matrix, ends: Matrix) -> float:
    """Metres from a point (3,) to the nearest of infinite lines through ends (K, 2, 3)."""
    direction = ends[:, 1] - ends[:, 0]
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    gap = point - ends[:, 0]
    return float(np.linalg.norm(gap - (gap * direction).sum(1, keepdims=True) * direction, axis=1).min())


def test_the_ends_of_a_straight_line_have_their_depth_though_a_part_is_hidden() -> None:
    matrix = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    ends = np.array([[[20.0, 50.0], [300.0, 50.0]]], np.float32)
    x = np.arange(320, dtype=np.float32)
    inverse = 1 / 2.0 + (x - 20) / 280 * (1 / 4.0 - 1 / 2.0)  # from 2 m to 4 m
    depth = np.tile(1 / inverse, (240, 1)).astype(np.float32)
    depth[:, 100:150] = 1.0  # something before it
    np.testing.assert_allclose(end_depths(depth, ends), [[2.0, 4.0]], rtol=0.01)
    assert lift(ends, np.array([[2.0, 4.0]], np.float32), matrix).shape == (1, 2, 3)


def test_a_line_over_a_jump_in_depth_has_no_depth() -> None:
    depth = np.full((240, 320), 2.0, np.float32)
    depth[:, 160:] = 3.0
    ends = np.array([[[20.0, 50.0], [300.0, 50.0]]], np.float32)
    assert np.isnan(end_depths(depth, ends)).all()


def test_a_file_keeps_lines_and_whether_it_is_in_metres(views: list[View], tmp_path) -> None:  # type: ignore[no-untyped-def]
    built = SceneMap.from_views(views, "rootsift", MapSettings(lines=True), check=False)
    path = replace(built, is_metric=False).save(tmp_path / "room.map")
    loaded = SceneMap.load(path)
    assert not loaded.is_metric and loaded.has_lines
    np.testing.assert_allclose(loaded.landmarks.lines.ends, built.landmarks.lines.ends, atol=1e-3)
    np.testing.assert_allclose(loaded.landmarks.lines.descriptors, built.landmarks.lines.descriptors, atol=0.01)


def test_images_that_do_not_overlap_make_no_map() -> None:
    rng = np.random.default_rng(0)
    frames = [
        RgbdFrame(rng.integers(0, 256, (120, 160, 3), np.uint8), None, np.diag([150.0, 150, 1]), None) for _ in range(4)
    ]
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    with pytest.raises(ValueError, match="no poses can be found for these 4 images"):
        SceneMap.build(frames, "rootsift", check=False)
