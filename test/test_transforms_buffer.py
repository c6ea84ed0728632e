# SPDX-License-Identifier: Apache-2.0
"""The tree of frames: look-ups against composed truth, and the refusals of tf2 in its own words."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from perception_models.geometry import se3
from perception_nodes.transform_buffer import TransformBuffer, TransformUnavailable

SECOND = 10**9
RNG = np.random.default_rng(5)


def random_pose():
    return se3.from_yaw_pitch_roll(*RNG.uniform(-1.5, 1.5, 3), RNG.uniform(-10, 10, 3))


def moving(stamps, parent="odom", child="base_link", length=10.0):
    buffer = TransformBuffer(length)
    poses = [random_pose() for _ in stamps]
    for stamp, pose in zip(stamps, poses, strict=True):
        buffer.set(pose, parent, child, stamp * SECOND)
    return buffer, poses


def test_every_pair_of_a_random_tree_equals_the_composed_world_poses():
    buffer, world = TransformBuffer(), {"f0": np.eye(4)}
    for number in range(1, 12):
        parent, pose = f"f{RNG.integers(number)}", random_pose()
        world[f"f{number}"] = world[parent] @ pose
        if number % 2:
            buffer.set(pose, parent, f"f{number}", 0, is_static=True)
        else:
            buffer.set(pose, parent, f"f{number}", 3 * SECOND)
    for target in world:
        for source in world:
            expected = np.linalg.inv(world[target]) @ world[source]
            np.testing.assert_allclose(buffer.lookup(target, source, 3 * SECOND), expected, atol=1e-9)


def test_between_two_stamps_translation_is_linear_and_rotation_turns_evenly():
    buffer = TransformBuffer()
    buffer.set(se3.from_yaw_pitch_roll(0.0, 0, 0, [0, 0, 0]), "odom", "base_link", 0 * SECOND + 1)
    buffer.set(se3.from_yaw_pitch_roll(1.0, 0, 0, [4, 2, 0]), "odom", "base_link", 1 * SECOND + 1)
    for fraction in (0.1, 0.5, 0.9):
        expected = se3.from_yaw_pitch_roll(fraction, 0, 0, [4 * fraction, 2 * fraction, 0])
        found = buffer.lookup("odom", "base_link", int(fraction * SECOND) + 1)
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_given_stamps_are_exact_and_their_order_of_arrival_does_not_matter():
    buffer, poses = moving([5, 3, 4, 2])
    for stamp, pose in zip([5, 3, 4, 2], poses, strict=True):
        np.testing.assert_array_equal(buffer.lookup("odom", "base_link", stamp * SECOND), pose)


def test_a_frame_in_itself_is_the_identity_at_any_time():
    buffer, _ = moving([1, 2])
    np.testing.assert_array_equal(buffer.lookup("odom", "odom", 99 * SECOND), np.eye(4))


@pytest.mark.parametrize(
    ("stamps", "asked", "text"),
    [
        ([2, 3], 4, "extrapolation into the future.  Requested time 4.000000 but the latest data is at time 3.000000"),
        ([2, 3], 1, "extrapolation into the past.  Requested time 1.000000 but the earliest data is at time 2.000000"),
        ([2], 1, "extrapolation at time 1.000000, but only time 2.000000 is in the buffer"),
    ],
)
def test_nothing_is_extrapolated(stamps, asked, text):
    buffer, _ = moving(stamps)
    with pytest.raises(TransformUnavailable) as caught:
        buffer.lookup("odom", "base_link", asked * SECOND)
    assert text in str(caught.value)
    assert str(caught.value).endswith("when looking up transform from frame [base_link] to frame [odom]")


def test_unknown_frames_are_named():
    buffer, _ = moving([1])
    with pytest.raises(TransformUnavailable, match='"map" passed to lookupTransform argument target_frame does not'):
        buffer.lookup("map", "base_link", SECOND)
    with pytest.raises(TransformUnavailable, match='"lidar" passed to lookupTransform argument source_frame'):
        buffer.lookup("odom", "lidar", SECOND)


def test_two_trees_are_not_joined():
    buffer, _ = moving([1])
    buffer.set(np.eye(4), "world", "camera", SECOND)
    with pytest.raises(TransformUnavailable, match="not part of the same tree"):
        buffer.lookup("odom", "camera", SECOND)


def test_zero_is_the_latest_time_that_all_links_have():
    buffer, poses = moving([1, 2, 3])
    buffer.set(np.eye(4), "base_link", "arm", 2 * SECOND)
    buffer.set(random_pose(), "base_link", "lidar", 0, is_static=True)
    np.testing.assert_allclose(buffer.lookup("odom", "arm", 0), poses[1])
    np.testing.assert_allclose(buffer.lookup("odom", "base_link", 0), poses[2])


def test_static_transforms_hold_at_any_time():
    buffer, pose = TransformBuffer(), random_pose()
    buffer.set(pose, "base_link", "lidar", 7 * SECOND, is_static=True)
    for stamp in (0, 1, 10**18):
        np.testing.assert_array_equal(buffer.lookup("base_link", "lidar", stamp), pose)


def test_the_buffer_forgets_what_is_older_than_its_length():
    buffer, poses = moving(range(1, 30), length=10.0)
    np.testing.assert_array_equal(buffer.lookup("odom", "base_link", 19 * SECOND), poses[18])
    with pytest.raises(TransformUnavailable, match="earliest data is at time 19.000000"):
        buffer.lookup("odom", "base_link", 18 * SECOND)


def test_a_source_that_starts_again_is_followed_and_static_links_stay():
    buffer, _ = moving([100, 101])
    buffer.set(random_pose(), "base_link", "lidar", 0, is_static=True)
    pose = random_pose()
    buffer.set(pose, "odom", "base_link", 5 * SECOND)
    np.testing.assert_array_equal(buffer.lookup("odom", "base_link", 5 * SECOND), pose)
    buffer.lookup("odom", "lidar", 5 * SECOND)


def test_a_new_parent_replaces_the_old_one():
    buffer, _ = moving([1, 2])
    pose = random_pose()
    buffer.set(pose, "map", "base_link", 2 * SECOND)
    np.testing.assert_array_equal(buffer.lookup("map", "base_link", 2 * SECOND), pose)


def test_leading_slashes_are_the_same_frame():
    buffer, poses = moving([1], parent="/odom", child="/base_link")
    np.testing.assert_array_equal(buffer.lookup("odom", "/base_link", SECOND), poses[0])


@pytest.mark.parametrize(("parent", "child"), [("a", "a"), ("", "a"), ("a", "")])
def test_links_that_join_nothing_are_refused(parent, child):
    with pytest.raises(ValueError, match="does not join two frames"):
        TransformBuffer().set(np.eye(4), parent, child, SECOND)


def test_poses_that_are_not_finite_are_refused():
    pose = np.eye(4)
    pose[0, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        TransformBuffer().set(pose, "a", "b", SECOND)


def test_a_loop_of_frames_ends_in_a_refusal_and_not_in_a_hang():
    buffer = TransformBuffer()
    buffer.set(np.eye(4), "a", "b", SECOND)
    buffer.set(np.eye(4), "b", "a", SECOND)
    buffer.set(np.eye(4), "x", "y", SECOND)
    with pytest.raises(TransformUnavailable, match="not part of the same tree"):
        buffer.lookup("x", "a", SECOND)
