# SPDX-License-Identifier: Apache-2.0
"""The launch files bring nodes up with the arguments that were given; runs where `launch` and the built package are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("launch_ros", reason="genuine `launch` is not installed: colcon build and source where ROS 2 is")

import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

try:
    LAUNCH = f"{get_package_share_directory('perception_nodes')}/launch"
except PackageNotFoundError:
    pytest.skip("perception_nodes is not in the ament index: colcon build and source it", allow_module_level=True)

SCRIPT = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [word.split(":=") for word in sys.argv[2:]]
service = LaunchService()
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""


@contextmanager
def launched(file: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A launch file running in its own process with arguments `name:=value`; ends as by Ctrl-C."""
    command = [sys.executable, "-c", SCRIPT, f"{LAUNCH}/{file}", *arguments]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            # A terminal sends Ctrl-C to the whole group, and launch counts on that.
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 0


@pytest.fixture
def observer() -> Iterator[Node]:
    """A node that looks at the graph."""
    rclpy.init()
    node = rclpy.create_node("observer")
    yield node
    node.destroy_node()
    rclpy.shutdown()


def wait_for(condition: Any, seconds: float = 40.0) -> None:
    """Returns as soon as the condition holds; fails where it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.1)


def parameters_of(observer: Node, node: str, *names: str) -> list[Any]:
    """Values of another node's parameters."""
    client = observer.create_client(GetParameters, f"{node}/get_parameters")
    assert client.wait_for_service(timeout_sec=40.0)
    future = client.call_async(GetParameters.Request(names=list(names)))
    rclpy.spin_until_future_complete(observer, future, timeout_sec=20.0)
    return [rclpy.parameter.parameter_value_to_python(value) for value in future.result().values]


def test_given_arguments_override_the_parameter_file_and_others_do_not(observer: Node) -> None:
    with launched("detection.launch.py", "autostart:=false", "backend:=onnxruntime"):
        names = ("autostart", "backend", "use_sim_time", "nms_iou")
        assert parameters_of(observer, "/detection_node", *names) == [False, "onnxruntime", False, 0.2]


def test_namespace_applies_to_the_node_and_its_topics(observer: Node) -> None:
    with launched("perception.launch.py", "namespace:=robot", "use_sim_time:=true", "points:=velodyne_points"):
        assert parameters_of(observer, "/robot/detection_node", "use_sim_time") == [True]
        wait_for(lambda: observer.count_subscribers("/robot/velodyne_points") == 1)


def test_tracking_has_its_own_parameter_file(observer: Node) -> None:
    with launched("perception.launch.py", "detection:=false", "tracking:=true", "autostart:=false"):
        names = ("autostart", "fixed_frame", "forget_after")
        assert parameters_of(observer, "/tracking_node", *names) == [False, "odom", 3.0]


def test_reconstruction_has_its_own_parameter_file(observer: Node) -> None:
    with launched("perception.launch.py", "detection:=false", "reconstruction:=true", "autostart:=false"):
        names = ("autostart", "map_frame", "voxel")
        assert parameters_of(observer, "/reconstruction_node", *names) == [False, "map", 0.03]


def test_task_that_is_switched_off_does_not_run(observer: Node) -> None:
    with launched("perception.launch.py", "detection:=false") as process:
        assert process.wait(30) == 0
        assert "detection_node" not in observer.get_node_names()
