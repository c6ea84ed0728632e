# SPDX-License-Identifier: Apache-2.0
"""The reconstruction node over real DDS: where things are, in which frames, and what an operator may ask of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path as FilePath

import numpy as np
import pytest
import yaml
from node_support import context, overrides, wait_for  # noqa: F401
from reconstruction_bench import MOUNT, NEVER, base_at, bench_fixture, decoded, knows, network_fixture, start_fixture  # noqa: F401
from reconstruction_support import CAMERA, SURE, seen_from

from perception_models.geometry import se3
from perception_models.registration.cloud_files import read_cloud
from perception_nodes.camera_info import decode_camera
from perception_nodes.images import decode_depth
from perception_nodes.parameters import ros_name
from perception_nodes.point_clouds import decode_points, read_field
from perception_nodes.reconstruction_frames import UPRIGHT
from perception_nodes.reconstruction_model import ReconstructionParameters
from perception_nodes.reconstruction_node import ReconstructionNode

ROOT = FilePath(__file__).resolve().parent.parent


def test_an_image_gives_points_depth_and_its_camera_in_the_frames_that_they_name(bench):
    bench.start_well()
    message, frame = bench.next_passes()
    cloud, depth, info = (bench.answer(topic, message) for topic in ("points", "depth", "depth/camera_info"))
    assert cloud.header.frame_id == "map" and depth.header == message.header == info.header
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "confidence"]
    local, world = seen_from(frame.pose)
    expected = se3.apply(MOUNT @ se3.inverse(bench.poses[0]), world).reshape(-1, 3)
    np.testing.assert_allclose(decode_points(cloud)[:, :3], expected, atol=1e-4)
    packed = np.ascontiguousarray(read_field(cloud, "rgb").ravel()).view(np.uint32)
    shown = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
    np.testing.assert_array_equal(shown, frame.rgb.reshape(-1, 3))
    np.testing.assert_allclose(read_field(cloud, "confidence"), SURE)
    assert depth.encoding == "32FC1"
    np.testing.assert_allclose(decode_depth(depth), local[..., 2], atol=1e-4)
    camera = decode_camera(info)
    assert (camera.width, camera.height) == (CAMERA.width, CAMERA.height)
    np.testing.assert_allclose(camera.matrix, CAMERA.matrix)


def test_odometry_path_and_transform_say_where_base_link_is_and_how_it_moves(bench):
    bench.start_well()
    messages = [bench.next_passes()[0] for _ in range(3)]
    first, before, last = bench.poses[0], bench.poses[2], bench.poses[3]
    odometry = bench.answer("odometry", messages[-1])
    assert (odometry.header.frame_id, odometry.child_frame_id) == ("map", "base_link")
    np.testing.assert_allclose(decoded(odometry), base_at(last, first), atol=1e-4)
    step = se3.inverse(base_at(before, first)) @ base_at(last, first)
    linear, angular = odometry.twist.twist.linear, odometry.twist.twist.angular
    np.testing.assert_allclose([linear.x, linear.y, linear.z], step[:3, 3] / 0.1, atol=1e-3)
    assert np.hypot(np.hypot(angular.x, angular.y), angular.z) == pytest.approx(se3.rotation_angle(step) / 0.1, 1e-3)
    covariance = np.reshape(odometry.pose.covariance, (6, 6))
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [0.1] * 3 + [0.05] * 3)
    found = bench.transforms.lookup("map", "base_link", messages[-1].header.stamp, timeout=20.0)
    np.testing.assert_allclose(found, base_at(last, first), atol=1e-4)
    path = bench.answer("path", messages[-1])
    assert len(path.poses) == 4 and path.header.frame_id == "map"
    np.testing.assert_allclose(se3.inverse(found)[:3, 3], se3.inverse(decoded(odometry))[:3, 3], atol=1e-9)


def test_the_first_velocity_is_told_as_unknown(bench):
    message, _ = bench.start_well()
    covariance = np.reshape(bench.answer("odometry", message).twist.covariance, (6, 6))
    assert np.diag(covariance).min() > 1000


def test_the_map_is_that_of_the_key_frames_in_its_frame(bench):
    bench.start_well()
    message, frame = bench.next_passes()
    cloud = bench.answer("map", message)
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb"] and cloud.header.frame_id == "map"
    held = bench.node.model.map
    np.testing.assert_allclose(decode_points(cloud)[:, :3], held.points)
    middle = MOUNT @ se3.inverse(bench.poses[0])
    assert np.abs(np.linalg.norm(held.points - middle[:3, 3], axis=1) - 3.0).max() < 0.05  # the ball
    values = bench.diagnosis()
    assert values["map_points"] == str(len(held)) and values["key_frames"] == "2"


def test_images_between_key_frames_are_answered_and_enter_neither_state_nor_map(start):
    bench = start(**NEVER)
    bench.start_well()
    held = len(bench.node.model.map)
    for _ in range(3):
        message, frame = bench.next_passes()
        np.testing.assert_allclose(bench.pose(message), base_at(frame.pose, bench.poses[0]), atol=1e-4)
    assert len(bench.node.model.map) == held and bench.diagnosis()["key_frames"] == "1"
    assert bench.node.model.reconstructor._stream.chunk.images == 1
    bench.set(key_distance=0.01)
    bench.next_passes()
    assert bench.node.model.reconstructor._stream.chunk.images == 2 and len(bench.node.model.map) > held


def test_images_that_come_too_soon_are_passed_over_in_silence(start):
    bench = start(min_interval=0.25)
    bench.start_well()
    soon = [bench.send(bench.next_frame()) for _ in range(2)]
    bench.next_passes()
    assert not any(bench.answers("odometry", message) for message in soon)
    assert bench.node.health.no_result == bench.node.health.rejected == 0


def test_the_whole_map_comes_no_more_often_than_it_may(start):
    bench = start(map_period=0.45)
    bench.start_well()
    sent = [bench.next_passes()[0] for _ in range(7)]
    shown = [bool(bench.answers("map", message)) for message in sent]
    assert shown == [False, False, False, False, True, False, False]


def test_pixels_of_which_the_network_is_unsure_are_in_neither_cloud_nor_depth(start):
    bench = start(min_confidence=SURE + 1, map_confidence=SURE + 1)
    message, _ = bench.start_well()
    assert bench.answer("points", message).width == 0 and len(bench.node.model.map) == 0
    depth = np.frombuffer(bench.answer("depth", message).data, "<f4")
    assert np.isnan(depth).all()  # none, by REP-118
    assert not decode_depth(bench.answer("depth", message)).any()


def test_a_map_that_is_full_is_told(start):
    bench = start(capacity=1000)
    bench.start_well()
    wait_for(lambda: bench.was_warned("the map is full"))
    assert bench.diagnosis()["map_full"] == "True" and len(bench.node.model.map) == 1000


def test_without_a_base_frame_the_pose_is_the_camera_s_own_in_an_upright_map(start):
    bench = start(mounted=False, base_frame="")
    bench.start_well()
    message, frame = bench.next_passes()
    assert bench.answer("odometry", message).child_frame_id == "camera"
    expected = UPRIGHT @ se3.inverse(bench.poses[0]) @ frame.pose
    np.testing.assert_allclose(bench.pose(message), expected, atol=1e-4)
    found = bench.transforms.lookup("map", "camera", message.header.stamp, timeout=20.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_odometry_of_another_node_is_corrected_and_keeps_base_link(start):
    bench = start(odom_frame="odom", tf_ahead=0.0)
    bench.info()
    base_in_odom = se3.from_yaw_pitch_roll(1.0, 0, 0, [7, 7, 0])
    for _ in range(2):
        bench.broadcaster.send(base_in_odom, "odom", "base_link", bench.stamp(100))
        message = bench.send(bench.next_frame(), milliseconds=0)
    expected = bench.pose(message) @ se3.inverse(base_in_odom)
    found = bench.transforms.lookup("map", "odom", message.header.stamp, timeout=20.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_the_other_odometry_the_pose_is_published_and_the_transform_is_not(start):
    bench = start(odom_frame="odom", tf_timeout=0.05)
    wait_for(lambda: knows(bench.node._frames._transforms, "base_link", "camera"))
    bench.start_well()
    wait_for(lambda: bench.was_warned("the correction of odometry is not renewed"))
    assert not knows(bench.transforms, "map", "odom")


def test_the_transform_can_be_switched_off(start):
    bench = start(publish_tf=False)
    bench.start_well()
    bench.next_passes()
    assert not knows(bench.transforms, "map", "base_link")


@pytest.mark.parametrize("ending", ["ply", "pcd"])
def test_the_map_is_saved_in_its_frame_as_a_cloud_that_others_read(start, tmp_path, ending):
    path = tmp_path / "maps" / f"ball.{ending}"
    bench = start(save_file=str(path))
    bench.start_well()
    answer = bench.call("save_map")
    assert answer.success and str(path) in answer.message
    np.testing.assert_allclose(read_cloud(path).points, bench.node.model.map.points, atol=1e-5)


def test_without_a_file_or_a_map_nothing_is_saved_and_the_answer_says_so(start, tmp_path):
    bench = start(save_file=str(tmp_path / "a.ply"))
    answer = bench.call("save_map")
    assert not answer.success and "the map is empty" in answer.message
    bench.set(save_file="")
    answer = bench.call("save_map")
    assert not answer.success and "save_file is empty" in answer.message


def test_reset_forgets_everything_and_the_next_image_is_the_origin(bench):
    bench.start_well()
    bench.next_passes()
    held = len(bench.node.model.map)
    answer = bench.call("reset")
    assert answer.success and answer.message == f"a map of {held} points is forgotten"
    assert len(bench.node.model.map) == 0
    message, _ = bench.next_passes()
    np.testing.assert_allclose(bench.pose(message), np.eye(4), atol=1e-4)
    values = bench.diagnosis()
    assert values["key_frames"] == "1" and values["reset_reason"] == "asked for"


def test_every_key_of_the_parameter_file_is_a_parameter_with_that_default():
    declared = {ros_name(entry): entry.default for entry in fields(ReconstructionParameters)}
    file = yaml.safe_load((ROOT / "config/reconstruction.yaml").read_text())
    assert file["/**"]["ros__parameters"] == declared


def test_parameters_that_make_no_sense_are_refused(bench):
    result = bench.node.set_parameters_atomically(overrides(save_file="map.las"))
    assert not result.successful and "does not end in .ply or .pcd" in result.reason
    (problem,) = ReconstructionParameters(scale_source="odometry").problems()
    assert "odom_frame" in problem
    assert not ReconstructionParameters(scale_source="odometry", odom_frame="odom").problems()


def test_missing_weights_fail_the_configuration_with_the_folder_named(context, tmp_path):  # noqa: F811
    given = overrides(variant=str(tmp_path / "nowhere"), autostart=False)
    node = ReconstructionNode(context=context, parameter_overrides=given)
    node.trigger_configure()
    assert node.state == "unconfigured" and "nowhere" in node.transition_error
    node.destroy_node()


def test_lifecycle_cycles_leave_nothing_behind(start, network):
    bench = start(scale_source="depth", scale_timeout=0.0)
    bench.start_well()
    for number in range(1, 6):
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            getattr(bench.node, f"trigger_{transition}")()
            if transition == "cleanup":
                assert network.closed
                network.closed = False
        assert bench.node.state == "active", number
    bench.wait_until_connected()
    message, _ = bench.start_well()
    np.testing.assert_allclose(bench.pose(message), np.eye(4), atol=1e-4)
    names = bench.client.get_node_names()
    assert names.count("reconstruction_node_services") == 1 and names.count("reconstruction_node_tf") == 1
