# SPDX-License-Identifier: Apache-2.0
"""Maps of images without depth, with and without poses: images are found in them where the simulator took them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from perception_models.evaluation.relocalization import pose_errors
from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix, RgbdFrame
from perception_models.relocalization import SceneMap
from perception_models.relocalization.depth import lift
from perception_models.relocalization.features import load_extractor
from perception_models.relocalization.fix import find
from perception_models.relocalization.matching import Query
from perception_models.relocalization.segments import end_depths
from perception_models.relocalization.settings import FixSettings, MapSettings
from perception_models.relocalization.views import View, observe
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_drive import simulate_room

FRAMES = 20
QUERIES = range(2, FRAMES, 5)


@pytest.fixture(scope="module")
def views() -> list[View]:
    """A walk through a room, three images a second, at half of the size to save time."""
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    frames = [view.frame for view in simulate_room(1, FRAMES, KINECT.scaled(0.75), rate=3.0)]
    extractor = load_extractor("rootsift")
    return [observe(frame, extractor, lines=True) for frame in frames]


def without(views: list[View], pose: bool) -> list[View]:
    """The views that make the map, without depth, and without pose where that is wanted."""
    chosen = [view for number, view in enumerate(views) if number not in QUERIES]
    return [bare(view, np.full((4, 4), np.nan) if pose else view.pose) for view in chosen]


def bare(view: View, pose: Matrix) -> View:
    segments = view.segments
    assert segments is not None
    unknown = replace(segments, depth=np.full_like(segments.depth, np.nan))
    return replace(view, pose=pose, depth=np.full_like(view.depth, np.nan), segments=unknown)


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
    scene_map = SceneMap.from_views(without(views, pose=False), "rootsift", check=False)
    errors = pose_errors(found_in(scene_map, views), [views[n].pose for n in QUERIES])
    assert scene_map.is_metric
    assert np.median(errors[:, 0]) < 2.0 and np.median(errors[:, 1]) < 0.5, errors


def test_images_alone_make_a_map_of_the_right_shape_that_says_it_has_no_scale(views: list[View]) -> None:
    scene_map = SceneMap.from_views(without(views, pose=True), "rootsift", check=False)
    assert not scene_map.is_metric
    poses = scene_map.landmarks.poses
    truth = np.stack([view.pose for number, view in enumerate(views) if number not in QUERIES])
    assert len(poses) == len(truth)  # all were placed
    scale, transform = similarity(poses, truth)
    found = [moved(pose, scale, transform) for pose in found_in(scene_map, views)]
    errors = pose_errors(found, [views[n].pose for n in QUERIES])
    assert np.median(errors[:, 0]) < 5.0 and np.median(errors[:, 1]) < 3.0, errors


def test_depth_gives_a_map_without_poses_its_scale(views: list[View]) -> None:
    chosen = [replace(view, pose=np.full((4, 4), np.nan)) for number, view in enumerate(views) if number not in QUERIES]
    scene_map = SceneMap.from_views(chosen, "rootsift", check=False)
    truth = np.stack([view.pose for number, view in enumerate(views) if number not in QUERIES])
    scale, _ = similarity(scene_map.landmarks.poses, truth)
    assert scene_map.is_metric and scale == pytest.approx(1.0, abs=0.05)


def test_lines_of_two_views_are_where_depth_says(views: list[View]) -> None:
    """Segments that were triangulated lie near the plane of depth that the camera measured at their ends."""
    settings = MapSettings(lines=True)
    triangulated = SceneMap.from_views(without(views, pose=False), "rootsift", settings, check=False).landmarks.lines
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
