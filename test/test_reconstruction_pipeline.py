# SPDX-License-Identifier: Apache-2.0
"""The reconstructor on a network that knows the truth: frames, state, chunks, and what a camera may do wrong."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest
from reconstruction_support import CAMERA, OWN, TrueNetwork, frame, seen_from, walk

from perception_models.geometry import se3
from perception_models.reconstruction import OnlineSettings, Reconstructor, View

QUICK = replace(OWN, known_after=2)


def views_of(network: TrueNetwork, settings: OnlineSettings = OWN, count: int = 12, **more) -> list[View]:
    reconstructor = Reconstructor(network, settings)
    return [reconstructor.update(one.rgb, one.camera_matrix, **more) for one in network.frames(walk(count))]


def check_world(views: list[View], poses: list[np.ndarray], atol: float = 1e-4) -> None:
    """That views lie where they truly are, as seen from the first of the cameras."""
    start = se3.inverse(poses[0])
    for view, pose in zip(views, poses, strict=True):
        local, world = seen_from(pose)
        assert view.valid and view.mask.all()
        np.testing.assert_allclose(view.pose, start @ pose, atol=atol)
        np.testing.assert_allclose(view.points, se3.apply(start, world), atol=atol)
        np.testing.assert_allclose(view.depth, local[..., 2], atol=atol)


def test_poses_points_and_depth_come_out_in_the_world_of_the_first_camera() -> None:
    views = views_of(TrueNetwork())

    check_world(views, walk(12))
    assert [bool(view.reset) for view in views] == [True] + 11 * [False]
    assert {view.world for view in views} == {0}
    np.testing.assert_array_equal(views[3].camera_matrix, CAMERA.matrix)
    np.testing.assert_array_equal(views[3].rgb, frame(walk(12)[3]).rgb)
    assert views[0].points.dtype == np.float32 and views[0].pose.dtype == np.float64


def test_without_a_camera_matrix_the_focal_length_is_found_in_the_points() -> None:
    network = TrueNetwork()
    (one,) = network.frames(walk(1))

    view = Reconstructor(network, OWN).update(one.rgb)

    np.testing.assert_allclose(view.camera_matrix, CAMERA.matrix, rtol=1e-3)


@pytest.mark.parametrize("every", [1, 4, 5])
def test_chunks_whose_units_differ_are_put_together_to_one_world(every: int) -> None:
    views = views_of(TrueNetwork(units=(1.0, 0.5, 2.0, 1.5)), replace(OWN, reset_every=every))

    check_world(views, walk(12), atol=1e-3)
    begun = [number for number, view in enumerate(views) if view.reset]
    assert begun == list(range(0, 12, every)) and "scheduled" in views[every].reset
    assert {view.world for view in views} == {0}


def test_a_query_shows_an_unseen_view_and_leaves_the_state() -> None:
    network = TrueNetwork(units=(0.5,))
    poses = walk(6)
    reconstructor = Reconstructor(network, OWN)
    frames = list(network.frames(poses))
    for one in frames[:4]:
        reconstructor.update(one.rgb, one.camera_matrix, depth=one.depth)
    before = reconstructor._stream.chunk

    unseen = se3.inverse(poses[0]) @ se3.from_yaw_pitch_roll(0.4, 0.2, -0.3, [0.5, -0.4, 0.1])
    view = reconstructor.query(unseen)
    after = reconstructor.update(frames[4].rgb, frames[4].camera_matrix, depth=frames[4].depth)

    _, world = seen_from(poses[0] @ unseen)
    np.testing.assert_allclose(view.points, se3.apply(se3.inverse(poses[0]), world), atol=1e-3)
    np.testing.assert_allclose(view.pose, unseen, atol=1e-9)
    assert before is not None and before.images == 4
    np.testing.assert_allclose(after.pose, se3.inverse(poses[0]) @ poses[4], atol=1e-4)


def test_a_query_needs_an_image_before_it_and_a_pose() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, OWN)
    with pytest.raises(RuntimeError, match="no image"):
        reconstructor.query(np.eye(4))
    (one,) = network.frames(walk(1))
    reconstructor.update(one.rgb, one.camera_matrix)
    for pose in (np.eye(3), np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match="pose"):
            reconstructor.query(pose)
    with pytest.raises(ValueError, match="camera matrix"):
        reconstructor.query(np.eye(4), np.zeros((3, 3)))


def test_the_gate_is_asked_for_where_the_settings_say_so() -> None:
    plain, gated = TrueNetwork(), TrueNetwork()
    views_of(plain, count=3)
    views_of(gated, replace(OWN, gated=True), count=3)

    assert not any(plain.gated) and all(gated.gated)


def blank(value: int) -> np.ndarray:
    return np.full((CAMERA.height, CAMERA.width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (blank(3), "black"),
        (blank(130), "one colour"),
        (np.zeros((80, 112), np.uint8), r"\(H, W, 3\) uint8"),
        (np.full((80, 112, 3), np.nan), r"\(H, W, 3\) uint8"),
        (np.zeros((0, 112, 3), np.uint8), r"\(H, W, 3\) uint8"),
    ],
)
def test_what_is_no_view_of_anything_does_not_enter_the_state(image: np.ndarray, words: str) -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, OWN)
    frames = list(network.frames(walk(5)))
    reconstructor.update(frames[0].rgb, frames[0].camera_matrix)
    before = reconstructor._stream.chunk

    view = reconstructor.update(image, CAMERA.matrix)

    assert not view.valid and not view.mask.any() and np.isnan(view.pose).all()
    assert view.reason and re.search(words, view.reason)
    assert reconstructor._stream.chunk is before
    after = reconstructor.update(frames[3].rgb, frames[3].camera_matrix)
    np.testing.assert_allclose(after.pose, se3.inverse(walk(1)[0]) @ walk(5)[3], atol=1e-4)
    assert not after.reset


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(4), np.diag([1.0, 1.0, 1.0])])
def test_a_matrix_of_no_camera_gives_a_view_without_result(matrix: np.ndarray) -> None:
    network = TrueNetwork()
    (one,) = network.frames(walk(1))

    view = Reconstructor(network, OWN).update(one.rgb, matrix)

    assert not view.valid and "camera matrix" in view.reason


def test_a_stream_that_stands_still_is_told_and_goes_on_afterwards() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, OWN)
    frames = list(network.frames(walk(4)))
    views = [reconstructor.update(frames[k].rgb, frames[k].camera_matrix) for k in (0, 1, 1, 1, 2)]

    assert [view.valid for view in views] == [True, True, False, False, True]
    assert "stopped" in views[2].reason
    assert not views[4].reset and reconstructor._stream.chunk.images == 3


def test_images_of_another_size_begin_a_new_world_with_the_reason() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, OWN)
    frames = list(network.frames(walk(4)))
    for one in frames[:2]:
        reconstructor.update(one.rgb, one.camera_matrix)
    larger = np.repeat(np.repeat(frames[2].rgb, 2, 0), 2, 1)
    matrix = CAMERA.matrix * 2
    matrix[:2, 2], matrix[2, 2] = CAMERA.matrix[:2, 2] * 2 + 0.5, 1

    view = reconstructor.update(larger, matrix)

    assert view.valid and view.world == 1
    assert "224 x 160" in view.reset and "112 x 80" in view.reset
    np.testing.assert_allclose(view.pose, np.eye(4), atol=1e-6)


def test_a_jump_to_another_place_begins_a_new_world() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, QUICK)
    here, there = list(network.frames(walk(5))), list(network.frames(walk(3), place=7))
    views = [reconstructor.update(one.rgb, one.camera_matrix) for one in here + there]

    assert [bool(view.reset) for view in views] == [True, *4 * [False], True, False, False]
    assert "jump" in views[5].reset
    assert [view.world for view in views] == 5 * [0] + 3 * [1]
    check_world(views[5:], walk(3))


def test_images_that_differ_much_are_no_jump_while_the_network_knows_the_place() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, QUICK)
    behind = [pose @ se3.from_yaw_pitch_roll(0, 3.0, 0) for pose in walk(2)]
    views = [reconstructor.update(one.rgb, one.camera_matrix) for one in network.frames(walk(5) + behind)]

    assert not any(view.reset for view in views[1:])


def test_answers_that_are_no_numbers_are_dropped_and_in_the_end_the_state_with_them() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, replace(OWN, failures=3))
    frames = list(network.frames(walk(8)))
    reconstructor.update(frames[0].rgb, frames[0].camera_matrix)
    network.broken = True
    failed = [reconstructor.update(one.rgb, one.camera_matrix) for one in frames[1:3]]
    kept = reconstructor._stream.chunk
    failed.append(reconstructor.update(frames[3].rgb, frames[3].camera_matrix))
    network.broken = False
    view = reconstructor.update(frames[4].rgb, frames[4].camera_matrix)

    assert not any(one.valid for one in failed) and kept is not None and kept.images == 1
    assert view.valid and view.world == 1 and "3 answers" in view.reset


def test_no_view_ever_holds_a_number_that_is_none() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, OWN)
    for number, one in enumerate(network.frames(walk(6))):
        network.broken = number % 2 == 1
        view = reconstructor.update(one.rgb, one.camera_matrix)
        if view.valid:
            values = [getattr(view, field.name) for field in fields(view)]
            assert all(np.isfinite(value).all() for value in values if isinstance(value, np.ndarray))
        else:
            assert view.reason and not view.mask.any()


def test_measured_depth_gives_the_world_its_size() -> None:
    network = TrueNetwork(units=(0.4,))
    reconstructor = Reconstructor(network, OWN)
    rng = np.random.default_rng(0)
    for one in network.frames(walk(8)):
        sparse = np.where(rng.random(one.depth.shape) < 0.2, one.depth, np.nan).astype(np.float32)
        sparse[::7] *= 3  # some of it is wrong
        view = reconstructor.update(one.rgb, one.camera_matrix, depth=sparse)
        np.testing.assert_allclose(view.depth, one.depth, rtol=1e-3)
    np.testing.assert_allclose(view.pose, se3.inverse(walk(1)[0]) @ walk(8)[7], atol=1e-3)
    assert view.scale == pytest.approx(0.4, rel=1e-3)


def test_odometry_gives_the_world_its_size_and_nothing_jumps_when_it_does() -> None:
    network = TrueNetwork(units=(0.25,))
    reconstructor = Reconstructor(network, replace(OWN, scale_step=0.12))
    odom = se3.from_yaw_pitch_roll(1.0, 0.2, 0.1, [7, 8, 9])
    views = [
        reconstructor.update(one.rgb, one.camera_matrix, odometry=odom @ one.pose) for one in network.frames(walk(10))
    ]

    assert views[0].scale == 1.0 and views[-1].scale == pytest.approx(0.25, rel=1e-4)
    steps = [np.linalg.norm(b.pose[:3, 3] - a.pose[:3, 3]) for a, b in zip(views[4:], views[5:], strict=False)]
    truth = np.linalg.norm(walk(10)[1][:3, 3] - walk(10)[0][:3, 3])
    np.testing.assert_allclose(steps, truth, rtol=1e-3)


def test_malformed_depth_and_odometry_tell_nothing() -> None:
    network = TrueNetwork(units=(0.5,))
    reconstructor = Reconstructor(network, OWN)
    first, second, third = network.frames(walk(3))
    assert reconstructor.update(first.rgb, first.camera_matrix, depth=np.ones((3, 3), np.float32)).scale == 1.0
    assert reconstructor.update(second.rgb, second.camera_matrix, depth=np.zeros((80, 112), np.float32)).scale == 1.0
    assert reconstructor.update(third.rgb, third.camera_matrix, odometry=np.full((4, 4), np.nan)).scale == 1.0


def test_a_reset_begins_a_new_world_with_the_reason_given() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, OWN)
    first, second = network.frames(walk(2))
    reconstructor.update(first.rgb, first.camera_matrix)
    reconstructor.reset("the operator wished it")
    view = reconstructor.update(second.rgb, second.camera_matrix)

    assert view.reset == "the operator wished it" and view.world == 1
    np.testing.assert_allclose(view.pose, np.eye(4), atol=1e-6)
    reconstructor.close()
    assert network.closed


def test_images_that_are_not_kept_are_answered_and_leave_the_state() -> None:
    network, asked = TrueNetwork(), list[np.ndarray]()

    def never(pose: np.ndarray) -> bool:
        asked.append(pose)
        return False

    reconstructor = Reconstructor(network, OWN)
    views = [reconstructor.update(one.rgb, one.camera_matrix, keep=never) for one in network.frames(walk(5))]

    check_world(views, walk(5))
    assert [view.kept for view in views] == [True] + 4 * [False]  # the first one begins the state
    assert reconstructor._stream.chunk.images == 1
    np.testing.assert_allclose(asked, [view.pose for view in views[1:]], atol=1e-9)


def test_images_that_shall_not_be_kept_are_answered_and_leave_the_state() -> None:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, replace(OWN, reset_every=3))
    asked: list[np.ndarray] = []

    def keep(pose: np.ndarray) -> bool:
        asked.append(pose)
        return len(asked) % 2 == 0

    views = [reconstructor.update(one.rgb, one.camera_matrix, keep=keep) for one in network.frames(walk(8))]

    check_world(views, walk(8))
    assert [view.kept for view in views] == [True, False, True, False, True, True, False, True]
    assert [number for number, view in enumerate(views) if view.reset] == [0, 5]  # after three that were kept
    np.testing.assert_allclose(asked[0], views[1].pose)
