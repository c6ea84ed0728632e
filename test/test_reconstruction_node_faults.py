# SPDX-License-Identifier: Apache-2.0
"""The reconstruction node over real DDS: what is left out and why, new worlds, and what tells the scale."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from node_support import context, wait_for  # noqa: F401
from reconstruction_bench import MOUNT, base_at, bench_fixture, network_fixture, nothing_came, refused, start_fixture  # noqa: F401
from reconstruction_support import CAMERA

from perception_models.geometry import se3
from perception_models.geometry.cameras import resize_matrix
from perception_nodes.camera_info import decode_camera
from perception_nodes.images import decode_depth, encode_image
from perception_nodes.messages import encode_pose


def test_where_the_camera_stands_on_the_robot_is_never_made_up(start):
    bench = start(mounted=False, tf_timeout=0.05)
    bench.info()
    message = bench.send(bench.next_frame())
    wait_for(lambda: bench.was_warned('"base_link" passed to lookupTransform'))
    nothing_came(bench, message)
    bench.set(tf_timeout=5.0)
    bench.statics.send(MOUNT, "base_link", "camera", bench.stamp())
    bench.next_passes()


def test_an_image_before_its_camera_info_gives_nothing_unless_the_network_shall_find_the_camera(bench):
    message = bench.send(bench.next_frame())
    wait_for(lambda: bench.was_warned("no camera info came yet"))
    nothing_came(bench, message)
    bench.set(use_camera_info=False)
    message, _ = bench.next_passes()
    np.testing.assert_allclose(decode_camera(bench.answer("depth/camera_info", message)).matrix, CAMERA.matrix, 1e-3)


def test_a_camera_that_is_not_calibrated_is_told(bench):
    bench.info(k=[0.0] * 9)
    wait_for(lambda: bench.was_warned("no valid K"))
    bench.start_well()


def test_a_bent_image_is_straightened_before_it_is_looked_at(bench, monkeypatch):
    bench.info(d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    given = []
    monkeypatch.setattr(bench.node.model.reconstructor, "update", lambda rgb, *_: given.append(rgb))
    frame = bench.next_frame()
    bench.send(frame)
    wait_for(lambda: given)
    assert given[0].shape == frame.rgb.shape and not np.array_equal(given[0], frame.rgb)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda m: setattr(m, "encoding", "32FC1"), "encoding '32FC1' is not a colour image"),
        (lambda m: setattr(m, "data", array("B", m.data[:-1])), "truncated"),
        (lambda m: setattr(m, "step", 3), "shorter than a row"),
        (lambda m: setattr(m.header, "frame_id", ""), "no frame_id"),
        (lambda m: (setattr(m.header.stamp, "sec", 0), setattr(m.header.stamp, "nanosec", 0)), "stamp is zero"),
        (lambda m: setattr(m.header.stamp, "sec", 99), "before the last one"),
    ],
)
def test_images_that_cannot_be_used_are_rejected(start, spoil, text):
    bench = start(stamp_jump=100.0)
    bench.start_well()
    message = encode_image(bench.next_frame().rgb, bench.header("camera"))
    spoil(message)
    bench.sent["image"].publish(message)
    wait_for(lambda: bench.was_warned(text))
    assert bench.node.health.rejected == 1
    assert len(bench.got["odometry"]) == len(bench.got["depth"]) == 1
    bench.next_passes()


@pytest.mark.parametrize(("value", "text"), [(0, "the image is black"), (200, "the image is one colour")])
def test_a_covered_camera_gives_nothing_and_the_world_stays(bench, value, text):
    bench.start_well()
    frame = bench.next_frame()
    message = bench.send(replace(frame, rgb=np.full_like(frame.rgb, value)))
    refused(bench, message, text)


def test_a_frozen_stream_is_told_and_the_world_stays(bench):
    _, frame = bench.start_well()
    refused(bench, bench.send(frame), "has the stream stopped?")
    assert bench.diagnosis()["valid"] == "True"


def test_answers_of_the_network_that_are_no_numbers_are_not_published(bench, network):
    bench.start_well()
    network.broken = True
    message = bench.send(bench.next_frame())
    wait_for(lambda: bench.was_warned("no number"))
    network.broken = False
    refused(bench, message, "no number")


def test_after_many_of_them_the_state_begins_anew_with_the_reason(bench, network):
    bench.start_well()
    network.broken = True
    for number in range(1, 6):
        bench.send(bench.next_frame())
        wait_for(lambda: bench.node.health.no_result == number)  # noqa: B023
    network.broken = False
    message, _ = bench.next_passes()
    np.testing.assert_allclose(bench.pose(message), np.eye(4), atol=1e-4)
    wait_for(lambda: bench.was_warned("reset, a new world begins"))
    values = bench.diagnosis()
    assert values["resets"] == "1" and "5 answers in a row were none" in values["reset_reason"]


@pytest.mark.parametrize("part", ["pose", "points", "depth", "camera_matrix"])
def test_a_view_that_says_it_is_valid_and_holds_nan_is_an_error_and_not_published(bench, monkeypatch, part):
    bench.start_well()
    update = bench.node.model.reconstructor.update
    with monkeypatch.context() as lying:

        def lie(*given, **more):
            view = update(*given, **more)
            return replace(view, **{part: np.full_like(getattr(view, part), np.nan)})

        lying.setattr(bench.node.model.reconstructor, "update", lie)
        message = bench.send(bench.next_frame())
        wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.ERROR, "not finite"))
        nothing_came(bench, message)
    bench.next_passes()


def test_a_model_that_raises_is_an_error_and_not_the_end(bench, network, monkeypatch):
    bench.start_well()
    with monkeypatch.context() as broken:
        broken.setattr(network, "encode", lambda *_: (_ for _ in ()).throw(KeyError("burnt")))
        message = bench.send(bench.next_frame())
        wait_for(lambda: bench.node.health.failed == 1)
        nothing_came(bench, message)
    bench.next_passes()


def test_a_change_of_resolution_waits_for_its_camera_info_and_begins_a_new_world(bench):
    bench.start_well()
    bench.next_passes()
    larger = [replace(f, rgb=f.rgb.repeat(2, 0).repeat(2, 1)) for f in (bench.next_frame(), bench.next_frame())]
    message = bench.send(larger[0])
    wait_for(lambda: bench.was_warned("the image is 224 x 160, its camera info says 112 x 80"))
    nothing_came(bench, message)
    bench.info(width=224, height=160, k=resize_matrix(CAMERA.matrix, 2).ravel())
    message = bench.send(larger[1])
    np.testing.assert_allclose(bench.pose(message), np.eye(4), atol=1e-4)
    wait_for(lambda: bench.was_warned("images are 224 x 160 now, they were 112 x 80"))
    assert len(bench.answer("path", message).poses) == 1


def test_a_jump_to_another_place_begins_map_path_and_origin_anew_with_the_reason(bench):
    bench.start_well()
    for _ in range(4):
        bench.next_passes()
    held = bench.node.model.map.points
    bench.count = 0
    message, jumped = bench.next_passes(place=7)
    np.testing.assert_allclose(bench.pose(message), np.eye(4), atol=1e-4)
    values = bench.diagnosis()
    assert (values["resets"], values["world"]) == ("1", "1") and "a jump" in values["reset_reason"]
    wait_for(lambda: bench.was_warned("reset, a new world begins, and map and path anew: a jump"))
    assert len(bench.answer("path", message).poses) == 1 and len(bench.node.model.map) < len(held)
    assert np.diag(np.reshape(bench.answer("odometry", message).twist.covariance, (6, 6))).min() > 1000
    message, frame = bench.next_passes(place=7)
    np.testing.assert_allclose(bench.pose(message), base_at(frame.pose, jumped.pose), atol=1e-4)


def test_a_scheduled_reset_keeps_the_world(start):
    bench = start(reset_every=2)
    bench.start_well()
    for _ in range(5):
        message, frame = bench.next_passes()
    np.testing.assert_allclose(bench.pose(message), base_at(frame.pose, bench.poses[0]), atol=1e-3)
    values = bench.diagnosis()
    assert values["resets"] == "0" and "scheduled" in values["reset_reason"]


def test_a_source_that_starts_again_forgets_everything(bench):
    bench.start_well()
    bench.clock += 50 * 10**9
    bench.next_passes()
    bench.clock -= 20 * 10**9
    message, _ = bench.next_passes()
    wait_for(lambda: bench.was_warned("jumped back"))
    np.testing.assert_allclose(bench.pose(message), np.eye(4), atol=1e-4)
    assert bench.diagnosis()["key_frames"] == "1"


@pytest.fixture
def network_in_feet(network):
    network._units = iter([0.3048] * 10)
    return network


def test_measured_depth_makes_the_world_metric(start, network_in_feet):
    bench = start(scale_source="depth")
    bench.info()
    for _ in range(2):
        frame, header = bench.next_frame(), bench.header("camera")
        bench.sent["scale_depth"].publish(encode_image(frame.depth, header))
        message = encode_image(frame.rgb, header)
        bench.sent["image"].publish(message)
        np.testing.assert_allclose(decode_depth(bench.answer("depth", message)), frame.depth, rtol=1e-3)
    np.testing.assert_allclose(bench.pose(message), base_at(bench.poses[1], bench.poses[0]), atol=1e-3)
    values = bench.diagnosis()
    assert values["scale_source"] == "depth" and float(values["scale"]) == pytest.approx(0.3048, rel=1e-3)


def test_odometry_makes_the_world_metric(start, network_in_feet):
    bench = start(scale_source="odometry", odom_frame="odom", publish_tf=False)
    bench.info()
    for _ in range(4):
        frame, header = bench.next_frame(), bench.header("camera")
        base = se3.from_yaw_pitch_roll(0.7, 0, 0, [3, 4, 0]) @ frame.pose @ se3.inverse(MOUNT)
        told = Odometry(header=type(header)(stamp=header.stamp, frame_id="odom"), child_frame_id="base_link")
        told.pose.pose = encode_pose(base)
        bench.sent["scale_odometry"].publish(told)
        message = encode_image(frame.rgb, header)
        bench.sent["image"].publish(message)
        bench.answer("odometry", message)
    np.testing.assert_allclose(decode_depth(bench.answer("depth", message)), frame.depth, rtol=1e-3)


def test_an_image_without_what_tells_the_scale_is_answered_with_a_warning(start):
    bench = start(scale_source="depth", scale_timeout=0.05)
    bench.start_well()
    wait_for(lambda: bench.was_warned("the scale is not renewed: the view has no depth"))


@pytest.mark.parametrize("with_info", [True, False])
def test_depth_of_another_size_than_the_image_does_not_tell_the_scale(start, with_info):
    bench = start(scale_source="depth", use_camera_info=with_info)
    if with_info:
        bench.info()
    frame, header = bench.next_frame(), bench.header("camera")
    bench.sent["scale_depth"].publish(encode_image(frame.depth[::2, ::2].copy(), header))
    message = encode_image(frame.rgb, header)
    bench.sent["image"].publish(message)
    bench.answer("odometry", message)
    wait_for(lambda: bench.was_warned("56 x 40"))
    assert float(bench.diagnosis()["scale"]) == 1.0


def test_odometry_that_does_not_say_what_moves_does_not_tell_the_scale(start):
    bench = start(scale_source="odometry", publish_tf=False)
    bench.info()
    header = bench.header("odom")
    bench.sent["scale_odometry"].publish(Odometry(header=header))
    message = bench.send(bench.next_frame(), milliseconds=10)
    bench.answer("odometry", message)
    wait_for(lambda: bench.was_warned("there is no child_frame_id"))
