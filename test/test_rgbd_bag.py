# SPDX-License-Identifier: Apache-2.0
"""Bags of images with depth: what was written is read again, and what a robot's bag lacks or spoils is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame, camera_matrix, frame_points
from perception_nodes import bags
from perception_nodes.bag_messages import encode_camera, encode_image, encode_odometry, encode_transforms, header
from perception_nodes.bags import BadBag, BagReader, BagWriter
from perception_nodes.point_clouds import read_field
from perception_nodes.rgbd_bag import OPTICAL_IN_BASE, RgbdBag, write_rgbd, write_rgbd_rig

STAMP, STEP = 1_700_000_000 * 10**9, 33_333_333
MATRIX = camera_matrix(50, 40, 30)
INFO = np.column_stack([MATRIX, np.zeros(3)])


def make_frame(index: int) -> RgbdFrame:
    rng = np.random.default_rng(index)
    depth = np.round(rng.uniform(0.5, 4, (30, 40)), 3).astype(np.float32)
    depth[:5] = 0
    pose = se3.from_yaw_pitch_roll(0.1 * index, 0.2, -0.3, [index, 1, 0.5])
    return RgbdFrame(rng.integers(0, 256, (30, 40, 3), np.uint8), depth, MATRIX, pose)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three frames with all their truth."""
    with BagWriter(tmp_path / "room.mcap") as bag:
        write_rgbd_rig(bag, STAMP)
        for index in range(3):
            frame = make_frame(index)
            instances = np.tile(np.arange(40, dtype=np.int32), (30, 1))
            write_rgbd(bag, STAMP + index * STEP, frame, frame.pose, instances)
    return tmp_path / "room.mcap"


def rewrite(path: Path, without: tuple[str, ...] = ()) -> Path:
    """The bag without some topics."""
    out = path.with_name("rewritten.mcap")
    with BagReader(path) as reader, BagWriter(out) as writer:
        for raw in reader.raw(set(reader.types) - set(without)):
            writer.write_raw(raw)
    return out


def read(path: Path) -> list[tuple[int, RgbdFrame]]:
    with RgbdBag(path) as bag:
        frames = list(bag)
        assert not bag.rejected and len(bag) == len(frames)
    return frames


def test_what_was_written_is_read_again(path: Path) -> None:
    found = read(path)
    assert [stamp for stamp, _ in found] == [STAMP + index * STEP for index in range(3)]
    for index, (_, frame) in enumerate(found):
        expected = make_frame(index)
        np.testing.assert_array_equal(frame.rgb, expected.rgb)
        np.testing.assert_allclose(frame.depth, expected.depth, atol=1e-6)
        np.testing.assert_array_equal(frame.camera_matrix, MATRIX)
        np.testing.assert_allclose(frame.pose, expected.pose, atol=1e-9)


def test_instances_are_a_labelled_cloud_of_the_pixels_with_depth(path: Path) -> None:
    with BagReader(path) as reader:
        clouds = [message for _, _, message in reader.messages([bags.TRUTH_INSTANCES])]
    expected = frame_points(replace(make_frame(0), pose=np.eye(4)))
    xyz = np.stack([read_field(clouds[0], name)[0] for name in "xyz"], axis=1)
    np.testing.assert_allclose(xyz, expected, atol=1e-5)
    labels = read_field(clouds[0], "label")[0]
    np.testing.assert_array_equal(labels, np.tile(np.arange(40), 25))
    assert clouds[0].header.frame_id == "camera_optical_frame"


def test_the_truth_says_where_base_link_is_and_the_camera_looks_ahead(path: Path) -> None:
    with BagReader(path) as reader:
        [message, *_] = [message for _, _, message in reader.messages([bags.TRUTH_ODOMETRY])]
    pose = make_frame(0).pose
    assert pose is not None
    position = message.pose.pose.position
    np.testing.assert_allclose([position.x, position.y, position.z], pose[:3, 3], atol=1e-9)
    np.testing.assert_array_equal(OPTICAL_IN_BASE[:3, 2], [1, 0, 0])  # its z axis is base_link's x axis
    np.testing.assert_array_equal(OPTICAL_IN_BASE[:3, 1], [0, 0, -1])


def test_without_truth_the_poses_are_those_of_tf(path: Path) -> None:
    for (_, frame), (_, expected) in zip(read(rewrite(path, (bags.TRUTH_ODOMETRY,))), read(path), strict=True):
        np.testing.assert_allclose(frame.pose, expected.pose, atol=1e-9)


def test_without_any_pose_and_depth_the_images_are_still_given(path: Path) -> None:
    found = read(rewrite(path, (bags.TRUTH_ODOMETRY, bags.TF, bags.DEPTH)))
    assert len(found) == 3 and all(frame.pose is None and frame.depth is None for _, frame in found)


@pytest.mark.parametrize(
    ("missing", "reason"), [(bags.IMAGE, "has no image on"), (bags.CAMERA_INFO, "has no /camera/camera_info")]
)
def test_a_bag_that_lacks_the_images_or_their_camera_is_refused(path: Path, missing: str, reason: str) -> None:
    with pytest.raises(BadBag, match=reason), RgbdBag(rewrite(path, (missing, bags.DEPTH))):
        pass


def robot_bag(path: Path, messages: list[tuple[str, Any, int]]) -> Path:
    with BagWriter(path) as bag:
        for topic, message, stamp in messages:
            bag.write(topic, message, stamp)
    return path


def test_depth_that_comes_after_its_image_is_found_and_that_of_another_time_is_not(tmp_path: Path) -> None:
    frames = [make_frame(index) for index in range(3)]
    messages = [(bags.CAMERA_INFO, encode_camera(INFO, 40, 30, header(STAMP, "cam")), STAMP)]
    for index, frame in enumerate(frames):
        stamp = STAMP + index * STEP
        measured = stamp + 5 if index == 1 else stamp
        messages.append((bags.IMAGE, encode_image(frame.rgb, header(stamp, "cam")), stamp + 100))
        messages.append((bags.DEPTH, encode_image(frame.depth, header(measured, "cam")), stamp + 1000))
    found = read(robot_bag(tmp_path / "a.mcap", messages))
    assert [frame.depth is None for _, frame in found] == [False, True, False]
    np.testing.assert_array_equal(found[2][1].depth, frames[2].depth)


def test_an_image_that_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path) -> None:
    head = header(STAMP, "cam")
    small = encode_image(np.zeros((10, 10, 3), np.uint8), head)
    messages = [(bags.IMAGE, small, STAMP - 1), (bags.CAMERA_INFO, encode_camera(INFO, 40, 30, head), STAMP)]
    messages += [(bags.IMAGE, small, STAMP + 1), (bags.IMAGE, encode_image(make_frame(0).rgb, head), STAMP + 2)]
    with RgbdBag(robot_bag(tmp_path / "a.mcap", messages)) as bag:
        assert len(list(bag)) == 1
        assert len(bag.rejected) == 2 and "the image is 10 x 10, its camera info says 40 x 30" in bag.rejected[1]


def test_a_map_frame_is_preferred_to_odometry(tmp_path: Path) -> None:
    place = se3.make(np.eye(3), [5, 0, 0])
    chain = [("map", "odom", place), ("odom", "cam", np.eye(4))]
    messages: list[tuple[str, Any, int]] = [
        (bags.TF, encode_transforms(chain, STAMP), STAMP),
        (bags.CAMERA_INFO, encode_camera(INFO, 40, 30, header(STAMP, "cam")), STAMP),
        (bags.IMAGE, encode_image(make_frame(0).rgb, header(STAMP, "cam")), STAMP),
    ]
    np.testing.assert_allclose(read(robot_bag(tmp_path / "a.mcap", messages))[0][1].pose, place)
    # The truth, where there is one, outdoes both.
    truth = se3.make(np.eye(3), [7, 0, 0])
    messages.append((bags.TRUTH_ODOMETRY, encode_odometry(truth, header(STAMP, "world"), "cam"), STAMP))
    np.testing.assert_allclose(read(robot_bag(tmp_path / "b.mcap", messages))[0][1].pose, truth)
