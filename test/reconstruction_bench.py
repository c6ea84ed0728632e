# SPDX-License-Identifier: Apache-2.0
"""The reconstruction node beside a robot with a camera in a painted ball, on a network that knows the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry, Path
from node_support import Bench, context, overrides, wait_for  # noqa: F401
from rclpy.node import Node
from reconstruction_support import CAMERA, OWN, TrueNetwork, walk
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame
from perception_models.reconstruction import CloudMap, Reconstructor
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.images import encode_image
from perception_nodes.reconstruction_model import ReconstructionModel, ReconstructionParameters
from perception_nodes.reconstruction_node import ReconstructionNode
from perception_nodes.transforms import Broadcaster, Transforms

MOUNT = se3.from_yaw_pitch_roll(-1.5, 0.1, -1.6, [0.3, 0.1, 0.6])  # of the camera on base_link
EVERY = {"key_distance": 0.0, "key_angle": 0.0, "key_time": 0.0}
NEVER = {"key_distance": 10.0, "key_angle": 3.2, "key_time": 3600.0}
RESULTS = {
    "points": PointCloud2,
    "map": PointCloud2,
    "depth": Image,
    "depth/camera_info": CameraInfo,
    "odometry": Odometry,
    "path": Path,
}
PUBLISHERS = {"image": Image, "camera_info": CameraInfo, "scale_depth": Image, "scale_odometry": Odometry}


class ReconstructionBench(Bench):
    """A robot with a camera in a painted ball, beside the node."""

    def connect(self, network: TrueNetwork) -> None:
        name = self.node.get_fully_qualified_name()
        self.network, self.poses, self.count = network, walk(40), 0
        self.sent = {t: self.client.create_publisher(kind, f"{name}/{t}", 10) for t, kind in PUBLISHERS.items()}
        for topic, kind in RESULTS.items():
            self.client.create_subscription(kind, f"{name}/{topic}", self.got[topic].append, 10)
        self.client.create_subscription(DiagnosticArray, "/diagnostics", self.got["diagnostics"].append, 10)
        self.broadcaster, self.statics = Broadcaster(self.client), Broadcaster(self.client, is_static=True)
        self.transforms = Transforms(self.client)

    def wait_until_connected(self) -> None:
        heard = ["image", "camera_info"]
        heard += {"depth": ["scale_depth"], "odometry": ["scale_odometry"]}.get(self.node.parameters.scale_source, [])
        wait_for(lambda: all(self.sent[topic].get_subscription_count() == 1 for topic in heard))
        wait_for(lambda: all(self.node.is_wanted(f"~/{topic}") for topic in RESULTS))

    def info(self, **changes) -> None:
        """Sends a camera info and waits until the node has looked at it."""
        message = CameraInfo(header=self.header("camera"), width=CAMERA.width, height=CAMERA.height)
        message.k, message.d, message.distortion_model = CAMERA.matrix.ravel(), [0.0] * 5, "plumb_bob"
        for key, value in changes.items():
            setattr(message, key, value)
        before = self.node.health.rejected
        self.node._camera_info = None
        self.sent["camera_info"].publish(message)
        wait_for(lambda: self.node._camera_info is not None or self.node.health.rejected > before)

    def next_frame(self, place: int = 0) -> RgbdFrame:
        """The camera goes on."""
        self.count += 1
        return next(self.network.frames([self.poses[self.count - 1]], place))

    def send(self, frame: RgbdFrame, milliseconds: int = 100) -> Image:
        """An image with the next stamp."""
        message = encode_image(frame.rgb, self.header("camera", milliseconds))
        self.sent["image"].publish(message)
        return message

    def answers(self, topic: str, message: Image) -> list:
        """What came back on a topic for an image."""
        return [answer for answer in self.got[topic] if answer.header.stamp == message.header.stamp]

    def answer(self, topic: str, message: Image):
        """The one that came back; waits for it."""
        wait_for(lambda: self.answers(topic, message))
        return self.answers(topic, message)[0]

    def next_passes(self, **more) -> tuple[Image, RgbdFrame]:
        """The next image is answered."""
        frame = self.next_frame(**more)
        message = self.send(frame)
        self.answer("odometry", message)
        return message, frame

    def start_well(self) -> tuple[Image, RgbdFrame]:
        self.info()
        return self.next_passes()

    def pose(self, message: Image) -> np.ndarray:
        """What came back on ~/odometry as (4, 4)."""
        return decoded(self.answer("odometry", message))

    def call(self, service: str) -> Trigger.Response:
        """Calls a service of the node."""
        client = self.client.create_client(Trigger, f"{self.node.get_fully_qualified_name()}/{service}")
        assert client.wait_for_service(timeout_sec=30)
        answer = client.call_async(Trigger.Request())
        wait_for(answer.done)
        return answer.result()

    def was_warned(self, text: str) -> bool:
        return self.was_diagnosed(DiagnosticStatus.WARN, text)


def decoded(odometry: Odometry) -> np.ndarray:
    p, q = odometry.pose.pose.position, odometry.pose.pose.orientation
    return se3.from_quaternion([q.x, q.y, q.z, q.w], [p.x, p.y, p.z])


def base_at(pose: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Where base_link is in the map when the camera is at `pose`, and was at `first` when the map began."""
    return MOUNT @ se3.inverse(first) @ pose @ se3.inverse(MOUNT)


@pytest.fixture(name="network")
def network_fixture():
    return TrueNetwork()


@pytest.fixture(name="start")
def start_fixture(context, network):  # noqa: F811
    """Function that brings up the node with parameters, the camera mounted on the robot."""
    running = []

    def make_model(p: ReconstructionParameters) -> ReconstructionModel:
        settings = replace(OWN, gated=p.gated, reset_every=p.reset_every, known_after=2, scale_step=0.03)
        reconstructor = Reconstructor(network, settings)
        return ReconstructionModel(reconstructor, CloudMap(p.voxel, p.capacity, p.map_confidence, p.map_reach))

    def start(mounted: bool = True, **parameters) -> ReconstructionBench:
        given = {"tf_timeout": 5.0, "scale_timeout": 5.0, "map_period": 0.0, "path_step": 0.0, **EVERY, **parameters}
        node = ReconstructionNode(make_model, context=context, parameter_overrides=overrides(**given))
        bench = ReconstructionBench(node, Node("client", context=context), clock=10**11)
        bench.connect(network)
        running.append((BackgroundExecutor(node, "node"), bench))
        running.append((BackgroundExecutor(bench.client, "client"), None))
        wait_for(lambda: node.state == "active")
        bench.wait_until_connected()
        if mounted:
            bench.statics.send(MOUNT, "base_link", "camera", bench.stamp())
        return bench

    yield start
    for executor, bench in reversed(running):
        executor.stop()
        if bench is not None:
            bench.transforms.close()
            bench.node.destroy_node()
            bench.client.destroy_node()


@pytest.fixture(name="bench")
def bench_fixture(start):
    return start()


def nothing_came(bench: ReconstructionBench, message: Image) -> None:
    """No output has the stamp of an image, and nothing on /tf."""
    assert not any(bench.answers(topic, message) for topic in RESULTS if topic != "path")
    with pytest.raises(RuntimeError):
        bench.transforms.lookup("map", "base_link", message.header.stamp)


def refused(bench: ReconstructionBench, message: Image, text: str) -> None:
    """An image that was sent gives nothing but a warning that has this text; the world stays and the node goes on."""
    wait_for(lambda: bench.was_warned(text))
    nothing_came(bench, message)
    bench.next_passes()
    assert bench.diagnosis()["resets"] == "0"


def knows(transforms: Transforms, target: str, source: str) -> bool:
    try:
        transforms.lookup(target, source, rclpy.time.Time().to_msg())
    except RuntimeError:
        return False
    return True
