# SPDX-License-Identifier: Apache-2.0
"""What the node tests share: a scripted detector, a client on the other side of DDS, clouds to send."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA?max_msg_size=4MB&sockets_size=4MB&non_blocking=true")

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("vision_msgs", reason="vision_msgs is not generated")

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from perception_models.detection import Detections
from perception_models.detection.postprocess import Thresholds
from perception_models.detection.settings import DetectionSettings
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.messages import encode_points

BOXES = np.array([[10, 2, -1, 4.5, 1.9, 1.6, 0.5], [5, -3, -0.8, 0.6, 0.7, 1.7, -2.0]], np.float32)


@dataclass(frozen=True)
class FakeInfo:
    backend: str = "fake"
    precision: str = "fp32"


class FakeDetector:
    """Answers every cloud with BOXES; remembers what it was given."""

    def __init__(self) -> None:
        self.settings = DetectionSettings()
        self.thresholds = Thresholds()
        self.overflow = 0
        self.timing = {"preprocess": 1.0, "inference": 2.0, "postprocess": 3.0}
        self.engine_info = FakeInfo()
        self.seen: list[np.ndarray] = []
        self.seconds = 0.0
        self.error: Exception | None = None
        self.closed = 0

    def detect(self, points: np.ndarray) -> Detections:
        self.seen.append(points)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return Detections(BOXES, np.array([0.9, 0.6], np.float32), np.array([0, 1]), self.settings.classes)

    def close(self) -> None:
        self.closed += 1


@dataclass
class Bench:
    """A node under test on its own thread and a client on another, in one context."""

    node: Any
    client: Node
    got: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    clock: int = 1_000_000_000

    def stamp(self, milliseconds: int = 100) -> Time:
        """The next stamp; forwards unless a negative step is asked for."""
        self.clock += milliseconds * 1_000_000
        return Time(sec=self.clock // 10**9, nanosec=self.clock % 10**9)

    def header(self, frame: str = "lidar", milliseconds: int = 100) -> Header:
        return Header(stamp=self.stamp(milliseconds), frame_id=frame)

    def send(self, cloud: PointCloud2) -> None:
        self.points.publish(cloud)

    def cloud(self, frame: str = "lidar", milliseconds: int = 100, count: int = 100) -> PointCloud2:
        return encode_points(random_points(count), self.header(frame, milliseconds))

    def set(self, **values: Any) -> None:
        """Sets parameters that must be accepted."""
        result = self.node.set_parameters_atomically(overrides(**values))
        assert result.successful, result.reason

    def good_cloud_passes(self) -> None:
        """The node is alive: the next good cloud comes back as detections with its header."""
        cloud = self.cloud()
        self.send(cloud)
        wait_for(lambda: any(m.header.stamp == cloud.header.stamp for m in self.got["detections"]))

    def diagnosis(self) -> dict[str, str]:
        """The newest values of /diagnostics, its level and message among them."""
        before = len(self.got["diagnostics"])
        wait_for(lambda: len(self.got["diagnostics"]) > before)
        status = self.got["diagnostics"][-1].status[0]
        return {v.key: v.value for v in status.values} | {"level": status.level, "message": status.message}

    def was_diagnosed(self, level: bytes, text: str) -> bool:
        """Whether any report so far had this level and this text in its message; a trouble is told for one second."""
        reports = [message.status[0] for message in self.got["diagnostics"]]
        return any(report.level == level and text in report.message for report in reports)

    def connect(self) -> None:
        """Publisher and subscriptions of the client; returns when the node has found them."""
        name = self.node.get_fully_qualified_name()
        self.points = self.client.create_publisher(PointCloud2, f"{name}/points", 10)
        for topic, kind, at in (
            ("detections", Detection3DArray, f"{name}/detections"),
            ("markers", MarkerArray, f"{name}/markers"),
            ("timing", DiagnosticArray, f"{name}/timing"),
            ("diagnostics", DiagnosticArray, "/diagnostics"),
        ):
            self.client.create_subscription(kind, at, self.got[topic].append, 10)

    def wait_until_connected(self) -> None:
        wait_for(lambda: self.points.get_subscription_count() == 1)
        wait_for(lambda: self.node.is_wanted("~/detections") and self.node.is_wanted("~/markers"))


def wait_for(condition: Callable[[], Any], timeout: float = 60.0) -> None:
    """Returns as soon as the condition holds; fails the test when it never does."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the expected event did not come"
        time.sleep(0.005)


def random_points(count: int = 100) -> np.ndarray:
    """Points (count, 4) around the sensor, intensity 0..1."""
    points = np.random.default_rng(0).uniform(-40, 40, (count, 4)).astype(np.float32)
    points[:, 3] = np.linspace(0, 1, count)
    return points


def overrides(**values: Any) -> list[Parameter]:
    """Parameter overrides of a node; a double underscore in a name stands for the dot."""
    return [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]


@pytest.fixture
def context():
    """A ROS context of its own for each test."""
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def launch(context):
    """Function that spins a node made by `make(context=..., parameter_overrides=...)`; gives back its Bench."""
    running = []

    def start(make: Callable[..., Any], active: bool = True, **parameters: Any) -> Bench:
        node = make(context=context, parameter_overrides=overrides(**parameters))
        bench = Bench(node, Node("client", context=context))
        bench.connect()
        running.append((BackgroundExecutor(bench.node, "node"), bench.node))
        running.append((BackgroundExecutor(bench.client, "client"), bench.client))
        if active:
            wait_for(lambda: node.state == "active")
            bench.wait_until_connected()
        return bench

    yield start
    for executor, node in reversed(running):
        executor.stop()
        node.destroy_node()
