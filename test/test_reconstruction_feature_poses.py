# SPDX-License-Identifier: Apache-2.0
"""Poses from image features, on a network that knows each image's depth, but neither poses nor one size for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstruction_support import CAMERA, TrueNetwork, frame, walk

from perception_models.geometry import se3
from perception_models.geometry.cameras import resize_matrix
from perception_models.reconstruction import OnlineSettings, Reconstructor, View
from perception_models.reconstruction.adjustment import Bundle, Sights, adjust, linearised
from perception_models.reconstruction.depth_correction import corrected
from perception_models.reconstruction.feature_poses import depths_at
from perception_models.reconstruction.features import Extractor, Features, matches
from perception_models.reconstruction.visual_odometry import KEYS, VisualOdometry

FEATURES = OnlineSettings(poses="features", known_after=2, failures=3)
FINE = 22.0  # rad/m: paint with key points


class DepthOnly(TrueNetwork):
    """Says of every image that it was taken where the first was, and gives each a size of its own."""

    def __init__(self, spread: float = 0.0) -> None:
        super().__init__()
        self._spread, self._rng = spread, np.random.default_rng(5)

    def frames(self, poses, place: int = 0, detail: float = FINE):
        return super().frames(poses, place, detail)

    def step(self, tokens, state, gated):
        answer, state = super().step(tokens, state, gated)
        factor = np.float32(1 if state.fresh else np.exp(self._rng.normal(0, self._spread)))
        own = factor * answer.points_self
        return replace(answer, points_self=own, points=own, pose=np.eye(4)), state


def updated(reconstructor: Reconstructor, frames) -> list[View]:
    return [reconstructor.update(one.rgb, one.camera_matrix) for one in frames]


def off(views: list[View], poses: list[np.ndarray]) -> tuple[float, float]:
    """Largest error of views' poses in the frame of the first, m and rad."""
    start = se3.inverse(poses[0])
    errors = [se3.inverse(start @ pose) @ view.pose for view, pose in zip(views, poses, strict=True)]
    return max(np.linalg.norm(one[:3, 3]) for one in errors), max(map(se3.rotation_angle, errors))


def test_the_way_is_found_in_the_images_and_points_lie_where_they_are() -> None:
    network, poses = DepthOnly(), walk(16)
    frames = list(network.frames(poses))
    views = updated(Reconstructor(network, FEATURES), frames)

    assert all(view.valid and view.world == 0 for view in views)
    metres, radians = off(views, poses)
    assert metres < 0.02 and radians < 0.01  # of a way of 0.8 m
    for view, one in zip(views, frames, strict=True):
        np.testing.assert_allclose(view.points, se3.apply(view.pose, _unprojected(view)), atol=1e-3)
        assert np.median(np.abs(view.depth / one.depth - 1)) < 0.02


def _unprojected(view: View) -> np.ndarray:
    y, x = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = (np.stack([x, y], -1) - CAMERA.matrix[:2, 2]) / CAMERA.matrix[[0, 1], [0, 1]]
    return np.concatenate([rays, np.ones((*x.shape, 1))], -1) * view.depth[..., None]


def test_depth_whose_size_changes_from_image_to_image_is_brought_to_one_size() -> None:
    network, poses = DepthOnly(spread=0.2), walk(16)
    frames = list(network.frames(poses))
    given = [network.step(network.encode(_tensor(one.rgb)), network.start(), False)[0].depth for one in frames]
    views = updated(Reconstructor(network, FEATURES), frames)

    sizes = np.array([np.log(np.median(view.depth / one.depth)) for view, one in zip(views, frames, strict=True)])
    before = np.array([np.log(np.median(depth / one.depth)) for depth, one in zip(given, frames, strict=True)])
    assert before.std() > 0.1 and sizes.std() < 0.03
    scaled = [se3.make(pose[:3, :3], pose[:3, 3] * np.exp(sizes.mean())) for pose in poses]
    assert off(views, scaled)[0] < 0.05


def _tensor(rgb: np.ndarray) -> np.ndarray:
    return (rgb.transpose(2, 0, 1)[None] / np.float32(127.5) - 1).astype(np.float32)


def test_one_image_of_another_place_is_denied_and_the_way_goes_on() -> None:
    network, poses = DepthOnly(), walk(8)
    here, (there,) = list(network.frames(poses)), list(network.frames(walk(1), place=9))
    reconstructor = Reconstructor(network, replace(FEATURES, likeness=-1.0))  # nothing is so unlike that it is a jump
    views = updated(reconstructor, [*here[:5], there, *here[5:]])

    assert not views[5].valid and "recognised" in views[5].reason and np.isnan(views[5].pose).all()
    assert off(views[:5] + views[6:], poses)[0] < 0.02 and views[-1].world == 0


def test_after_some_images_without_a_pose_a_new_world_begins_with_the_reason() -> None:
    network = DepthOnly()
    here, there = list(network.frames(walk(5))), list(network.frames(walk(6), place=9))
    views = updated(Reconstructor(network, replace(FEATURES, likeness=-1.0)), here + there)

    assert [view.valid for view in views] == 5 * [True] + 3 * [False] + 3 * [True]
    assert views[8].world == 1 and "3 answers" in views[8].reset and "recognised" in views[8].reset
    assert off(views[8:], walk(6)[3:])[0] < 0.02


def test_a_jump_begins_a_new_world_at_once() -> None:
    network = DepthOnly()
    here, there = list(network.frames(walk(5))), list(network.frames(walk(2), place=9))
    views = updated(Reconstructor(network, FEATURES), here + there)

    assert all(view.valid for view in views) and [view.world for view in views] == 5 * [0] + 2 * [1]
    assert "jump" in views[5].reset


def test_a_covered_camera_has_no_pose_and_is_found_again() -> None:
    network, poses = DepthOnly(), walk(8)
    frames, dark = list(network.frames(poses)), np.full((CAMERA.height, CAMERA.width, 3), 3, np.uint8)
    reconstructor = Reconstructor(network, FEATURES)
    before = updated(reconstructor, frames[:5])
    covered = [reconstructor.update(dark, CAMERA.matrix) for _ in range(4)]
    after = updated(reconstructor, frames[5:])

    assert not any(view.valid for view in covered)
    assert off(before + after, poses)[0] < 0.02 and after[0].world == 0


def test_a_state_begun_anew_at_every_image_changes_nothing_of_the_world() -> None:
    network, poses = DepthOnly(), walk(8)
    views = updated(Reconstructor(network, replace(FEATURES, reset_every=1)), network.frames(poses))

    assert all("scheduled" in view.reset for view in views[1:]) and off(views, poses)[0] < 0.02


def test_whether_an_image_is_kept_is_asked_with_the_features_pose() -> None:
    network, poses, asked = DepthOnly(), walk(6), list[np.ndarray]()
    reconstructor = Reconstructor(network, FEATURES)
    views = [
        reconstructor.update(one.rgb, one.camera_matrix, keep=lambda pose: bool(asked.append(pose)))
        for one in network.frames(poses)
    ]

    np.testing.assert_allclose(asked, [view.pose for view in views[1:]])
    assert [view.kept for view in views] == [True] + 5 * [False] and off(views, poses)[0] < 0.02


def test_measured_depth_gives_the_features_world_its_size() -> None:
    network, poses = DepthOnly(), walk(8)
    reconstructor = Reconstructor(network, FEATURES)
    for one in network.frames(poses):
        view = reconstructor.update(one.rgb, one.camera_matrix, depth=2 * one.depth)

    truth = (se3.inverse(poses[0]) @ poses[-1])[:3, 3]
    np.testing.assert_allclose(view.pose[:3, 3], 2 * truth, atol=0.04)
    assert view.scale == pytest.approx(2, rel=0.02)


def test_a_query_is_refused_where_the_state_does_not_share_the_world() -> None:
    network = DepthOnly()
    reconstructor = Reconstructor(network, FEATURES)
    updated(reconstructor, network.frames(walk(2)))
    with pytest.raises(RuntimeError, match="features"):
        reconstructor.query(np.eye(4))


def test_unknown_poses_are_refused() -> None:
    with pytest.raises(ValueError, match="network, features"):
        OnlineSettings(poses="stars")


def test_what_is_remembered_stays_bounded() -> None:
    odometry, extract, sizes = VisualOdometry(2 * CAMERA.focal), Extractor(200), list[int]()
    poses = walk(12, step=0.1)
    for pose in 3 * (poses + poses[::-1]):
        one = frame(pose, detail=FINE)
        features = extract(one.rgb, CAMERA.matrix)
        assert odometry.track(features, depths_at(features.rays, one.depth, CAMERA.matrix)) is not None
        sizes.append(len(odometry))

    assert max(sizes) <= KEYS * 200
    assert len(odometry._keys) == KEYS


def test_images_from_one_place_do_not_push_out_those_that_show_depth() -> None:
    odometry, extract = VisualOdometry(2 * CAMERA.focal), Extractor(200)
    for pose in [*walk(5, step=0.15), *(20 * walk(5, step=0.15)[-1:])]:
        one = frame(pose, detail=FINE)
        features = extract(one.rgb, CAMERA.matrix)
        odometry.track(features, depths_at(features.rays, one.depth, CAMERA.matrix))

    np.testing.assert_allclose(odometry._keys[0].pose, np.eye(4))


def test_matches_are_each_other_s_nearest_and_clear() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((6, 128)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    order = np.array([3, 0, 5, 1])
    doubled = np.concatenate([values[order], values[5:6]])  # 5 is there twice: neither is meant

    mine, theirs = matches(Features(np.zeros((6, 2)), values), Features(np.zeros((5, 2)), doubled))

    assert dict(zip(mine.tolist(), theirs.tolist(), strict=True)) == {3: 0, 0: 1, 1: 3}
    nothing = Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    assert not len(matches(nothing, nothing)[0])
    assert not len(Extractor(10)(np.full((80, 112, 3), 90, np.uint8), CAMERA.matrix))


def test_key_points_are_where_the_same_place_is_seen_at_any_size() -> None:
    one = frame(walk(1)[0], detail=FINE)
    large = np.repeat(np.repeat(one.rgb, 2, 0), 2, 1)
    small, double = Extractor(60)(one.rgb, CAMERA.matrix), Extractor(60)(large, resize_matrix(CAMERA.matrix, 2))
    mine, theirs = matches(small, double)

    assert len(mine) > 15
    assert np.median(np.abs(small.rays[mine] - double.rays[theirs])) * CAMERA.focal < 0.3  # pixels


def scene(noise: float = 0.0) -> tuple[Bundle, Bundle, Sights]:
    """The truth, where one begins, and what is seen."""
    rng = np.random.default_rng(1)
    poses = np.stack([se3.inverse(pose) for pose in walk(5, step=0.1)])
    points = rng.uniform([-1.5, -1, 1.5], [1.5, 1, 4], (80, 3))
    images, shown = np.nonzero(rng.random((5, 80)) < 0.7)
    seen = np.einsum("mij,mj->mi", poses[images, :3, :3], points[shown]) + poses[images, :3, 3]
    sights = Sights(images, shown, seen[:, :2] / seen[:, 2:], seen[:, 2], 1 / 380, 0.5)
    start = poses.copy()
    start[2:, :3, 3] += noise * rng.normal(size=(3, 3))
    return Bundle(poses, points), Bundle(start, points * np.exp(5 * noise * rng.normal(size=(80, 1)))), sights


def test_adjustment_finds_poses_and_points_though_one_sight_in_ten_is_wrong() -> None:
    truth, start, sights = scene(noise=0.03)
    sights.rays[::10] += 0.1
    found = adjust(start, sights, fixed=2, rounds=30)

    np.testing.assert_array_equal(found.poses[:2], start.poses[:2])
    np.testing.assert_allclose(found.poses, truth.poses, atol=2e-3)
    assert np.median(np.linalg.norm(found.points - truth.points, axis=1)) < 0.01


def test_the_equations_are_the_slope_of_the_cost() -> None:
    _, start, sights = scene(noise=0.03)
    system, rng = linearised(start, sights), np.random.default_rng(2)
    step = 1e-6 * rng.normal(size=start.points.shape)
    turn = 1e-6 * rng.normal(size=3)
    about = np.eye(4)
    about[:3, :3] += np.array([[0, -turn[2], turn[1]], [turn[2], 0, -turn[0]], [-turn[1], turn[0], 0]])
    moved = start.poses.copy()
    moved[3] = about @ moved[3]

    change = linearised(Bundle(moved, start.points + step), sights).cost - system.cost
    told = -2 * ((system.point_goal * step).sum() + system.pose_goal[3, :3] @ turn)
    assert change == pytest.approx(told, rel=1e-3)


def test_a_depth_map_follows_what_is_known_at_places_and_not_what_is_wrong_there() -> None:
    rng, true = np.random.default_rng(0), frame(walk(1)[0]).depth
    y, x = np.mgrid[: CAMERA.height, : CAMERA.width]
    warped = (true * 0.7 * np.exp(0.2 * (x / CAMERA.width - 0.5))).astype(np.float32)
    chosen = tuple(rng.integers(2, 78, (2, 150)))
    rays = (np.stack([x[chosen], y[chosen]], -1) - CAMERA.matrix[:2, 2]) / CAMERA.focal
    known = true[chosen].astype(np.float64)
    known[::10] *= 3
    found = corrected(warped, rays, warped[chosen].astype(np.float64), known, CAMERA.matrix)

    assert np.abs(found / true - 1).mean() < 0.03
    few = corrected(warped, rays[1:8], warped[chosen][1:8].astype(np.float64), known[1:8], CAMERA.matrix)
    np.testing.assert_allclose(few / warped, (few / warped)[0, 0], rtol=1e-5)
    none = np.zeros(0)
    np.testing.assert_array_equal(corrected(warped, np.zeros((0, 2)), none, none, CAMERA.matrix), warped)


def test_depth_is_not_read_at_edges_nor_outside() -> None:
    depth = np.full((CAMERA.height, CAMERA.width), 2, np.float32)
    depth[:, 56:] = 4
    pixels = np.array([[20.0, 40], [55.6, 40], [100, 40], [500, 40]])
    rays = (pixels - CAMERA.matrix[:2, 2]) / CAMERA.focal

    np.testing.assert_allclose(depths_at(rays, depth, CAMERA.matrix), [2, 0, 4, 0])
