# SPDX-License-Identifier: Apache-2.0
"""TF over real DDS: broadcast, listen, wait, and no identity where there is nothing."""

from __future__ import annotations

import importlib.util
import threading
import time

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from node_support import context, wait_for  # noqa: F401
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from perception_models.geometry import se3
from perception_nodes.transform_buffer import TransformUnavailable
from perception_nodes.transforms import Broadcaster, Transforms

POSE = se3.from_yaw_pitch_roll(0.4, 0.1, -0.2, [1, 2, 3])
HAS_TF2 = importlib.util.find_spec("tf2_ros") is not None
TF2 = pytest.param(True, marks=pytest.mark.skipif(not HAS_TF2, reason="tf2_ros is not installed"))


@pytest.fixture
def owner(context):  # noqa: F811
    node = Node("owner", context=context, cli_args=["--ros-args", "-r", "/tf:=/robot/tf"])
    yield node
    node.destroy_node()


@pytest.fixture(params=[False, TF2], ids=["own", "tf2_ros"])
def transforms(owner, request):
    transforms = Transforms(owner, prefer_tf2=request.param)
    yield transforms
    transforms.close()


def at(seconds):
    return Time(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))


def test_what_is_broadcast_on_the_remapped_topic_is_found_at_its_stamp(owner, transforms):
    broadcaster, rig = Broadcaster(owner), Broadcaster(owner, is_static=True)
    wait_for(broadcaster._publisher.get_subscription_count)
    mount = se3.from_yaw_pitch_roll(0, 0, 0, [0, 0, 1.7])
    rig.send(mount, "base_link", "lidar", at(0))
    broadcaster.send(np.eye(4), "odom", "base_link", at(10))
    broadcaster.send(POSE, "odom", "base_link", at(12))
    found = transforms.lookup("odom", "lidar", at(11), timeout=5.0)
    np.testing.assert_allclose(found, se3.interpolate(np.eye(4), POSE, 0.5) @ mount, atol=1e-9)


def test_a_static_transform_sent_before_anyone_listened_is_found(owner):
    Broadcaster(owner, is_static=True).send(POSE, "base_link", "lidar", at(0))
    transforms = Transforms(owner)
    np.testing.assert_allclose(transforms.lookup("base_link", "lidar", at(5), timeout=5.0), POSE, atol=1e-9)
    transforms.close()


def test_a_look_up_waits_for_a_transform_that_comes_late(owner, transforms):
    broadcaster = Broadcaster(owner)
    wait_for(broadcaster._publisher.get_subscription_count)
    timer = threading.Timer(0.3, broadcaster.send, (POSE, "odom", "base_link", at(3)))
    timer.start()
    np.testing.assert_allclose(transforms.lookup("odom", "base_link", at(3), timeout=10.0), POSE, atol=1e-9)


def test_a_missing_transform_is_refused_after_the_wait_and_is_no_identity(transforms):
    began = time.monotonic()
    with pytest.raises(TransformUnavailable, match="does not exist"):
        transforms.lookup("map", "lidar", at(3), timeout=0.2)
    assert time.monotonic() - began >= 0.2


def test_transforms_that_are_not_valid_are_ignored(owner):
    transforms, broadcaster = Transforms(owner, prefer_tf2=False), Broadcaster(owner)
    wait_for(broadcaster._publisher.get_subscription_count)
    broken = TransformStamped(child_frame_id="base_link")
    broken.header.frame_id = "odom"
    broken.transform.rotation.w = 0.0
    broadcaster._publisher.publish(TFMessage(transforms=[broken]))
    broadcaster.send(POSE, "odom", "base_link", at(3))
    np.testing.assert_allclose(transforms.lookup("odom", "base_link", at(0), timeout=5.0), POSE, atol=1e-9)
    transforms.close()
    transforms.close()
