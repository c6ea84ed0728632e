# SPDX-License-Identifier: Apache-2.0
"""The relocalization node over real DDS: poses and map -> odom where the camera is found, nothing where it is not."""

from __future__ import annotations

from array import array
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from node_support import Bench, FakeInfo, context, overrides, wait_for  # noqa: F401
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger
from wall_support import HEIGHT, MATRIX, POSES, WIDTH, texture, view

from perception_models.geometry import se3
from perception_models.relocalization import Fix, SceneMap
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.images import encode_image
from perception_nodes.messages import decode_pose
from perception_nodes.parameters import ros_name
from perception_nodes.point_clouds import decode_points
from perception_nodes.relocalization_frames import moved
from perception_nodes.relocalization_map import load_relocalizer
from perception_nodes.relocalization_node import RelocalizationNode, RelocalizationParameters
from perception_nodes.transforms import Broadcaster, Transforms

ROOT = Path(__file__).resolve().parent.parent
CAMERA_IN_MAP = se3.from_yaw_pitch_roll(0.4, 0.1, -1.5, [3, -2, 1.2])
BASE_IN_CAMERA = se3.from_yaw_pitch_roll(-1.5, 0.2, 1.4, [0.1, 0.5, -0.3])
BASE_IN_ODOM = se3.from_yaw_pitch_roll(1.0, 0, 0, [7, 7, 0])
COVARIANCE = np.diag([1.0, 2, 3, 4, 5, 6]) * 1e-4
FOUND = Fix(CAMERA_IN_MAP, True, 123, COVARIANCE)
LOST = Fix(np.full((4, 4), np.nan), False, 0, np.full((6, 6), np.inf), "nothing in the image matches the map")
RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
K = [30.0, 0, 15.5, 0, 30, 11.5, 0, 0, 1]


class Landmarks:
    positions = np.arange(12, dtype=np.float32).reshape(4, 3)

    def __len__(self) -> int:
        return len(self.positions)


class FakeRelocalizer:
    """Answers every image with `fix`; remembers what it was asked."""

    def __init__(self) -> None:
        self.fix = FOUND
        self.scene_map = SimpleNamespace(landmarks=Landmarks())
        self.engine_info, self.timing = FakeInfo(), {"features": 1.0, "pose": 2.0}
        self.seen: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        self.error: Exception | None = None
        self.closed = 0

    def localize(self, image, camera_matrix, prior=None):
        self.seen.append((image, camera_matrix, prior))
        if self.error is not None:
            raise self.error
        return self.fix

    def close(self) -> None:
        self.closed += 1


class CameraBench(Bench):
    """A robot with a camera beside the node."""

    def connect(self) -> None:
        name = self.node.get_fully_qualified_name()
        self.images = self.client.create_publisher(Image, f"{name}/image", 10)
        self.infos = self.client.create_publisher(CameraInfo, f"{name}/camera_info", 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.client.create_subscription(PoseWithCovarianceStamped, f"{name}/pose", self.got["pose"].append, 10)
        self.client.create_subscription(PointCloud2, f"{name}/landmarks", self.got["landmarks"].append, latched)
        self.client.create_subscription(DiagnosticArray, "/diagnostics", self.got["diagnostics"].append, 10)
        self.broadcaster, self.statics = Broadcaster(self.client), Broadcaster(self.client, is_static=True)
        self.transforms = Transforms(self.client)

    def wait_until_connected(self) -> None:
        wait_for(lambda: self.images.get_subscription_count() == self.infos.get_subscription_count() == 1)
        wait_for(lambda: self.node.is_wanted("~/pose") and self.got["landmarks"])

    def info(self, **changes) -> None:
        """Sends a camera info and waits until the node has looked at it."""
        message = CameraInfo(header=self.header("camera"), width=32, height=24, k=K, d=[0.0] * 5)
        message.distortion_model = "plumb_bob"
        for key, value in changes.items():
            setattr(message, key, value)
        before = self.node.health.rejected
        self.node._camera_info = None
        self.infos.publish(message)
        wait_for(lambda: self.node._camera_info is not None or self.node.health.rejected > before)

    def image(self, milliseconds: int = 100, with_odometry: bool = True) -> Image:
        """An image with the next stamp; odometry says where the robot was at that stamp."""
        header = self.header("camera", milliseconds)
        if with_odometry:
            self.broadcaster.send(BASE_IN_ODOM, "odom", "base_link", header.stamp)
        return encode_image(RGB, header)

    def poses(self, message: Image) -> list[PoseWithCovarianceStamped]:
        """What came back for an image."""
        return [pose for pose in self.got["pose"] if pose.header.stamp == message.header.stamp]

    def good_image_passes(self) -> PoseWithCovarianceStamped:
        self.info()
        message = self.image()
        self.images.publish(message)
        wait_for(lambda: self.poses(message))
        return self.poses(message)[0]

    def call(self, service: str, action=lambda: None) -> Trigger.Response:
        """Calls a service of the node; `action` is repeated while it works."""
        client = self.client.create_client(Trigger, f"{self.node.get_fully_qualified_name()}/{service}")
        assert client.wait_for_service(timeout_sec=30)
        answer = client.call_async(Trigger.Request())

        def done() -> bool:
            action()
            return answer.done()

        wait_for(done)
        return answer.result()


@pytest.fixture
def relocalizer():
    return FakeRelocalizer()


@pytest.fixture
def start(context, relocalizer):  # noqa: F811
    """Function that brings up the node with parameters, the camera mounted on the robot."""
    running = []

    def start(mounted: bool = True, load=None, **parameters) -> CameraBench:
        load = load or (lambda map_file, method, threads: relocalizer)
        node = RelocalizationNode(load, context=context, parameter_overrides=overrides(**parameters))
        bench = CameraBench(node, Node("client", context=context))
        bench.connect()
        running.append((BackgroundExecutor(node, "node"), node))
        running.append((BackgroundExecutor(bench.client, "client"), bench.client))
        wait_for(lambda: node.state == "active")
        bench.wait_until_connected()
        if mounted:
            bench.statics.send(se3.inverse(BASE_IN_CAMERA), "base_link", "camera", bench.stamp())
        return bench

    yield start
    for executor, node in reversed(running):
        executor.stop()
        node.destroy_node()


@pytest.fixture
def bench(start):
    bench = start()
    yield bench
    bench.transforms.close()


def refused(bench: CameraBench, message: Image, text: str) -> None:
    """Sends an image that must give no pose and a warning that has this text; the node goes on."""
    bench.images.publish(message)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, text))
    assert not bench.poses(message)
    bench.good_image_passes()


def test_an_image_gives_the_pose_of_base_link_in_the_map(bench, relocalizer):
    answer = bench.good_image_passes()
    assert answer.header.frame_id == "map"
    np.testing.assert_allclose(decode_pose(answer.pose.pose), CAMERA_IN_MAP @ BASE_IN_CAMERA, atol=1e-9)
    expected = moved(FOUND, BASE_IN_CAMERA).covariance
    np.testing.assert_allclose(np.reshape(answer.pose.covariance, (6, 6)), expected, atol=1e-12)
    image, matrix, prior = relocalizer.seen[0]
    np.testing.assert_array_equal(image, RGB)
    np.testing.assert_array_equal(matrix, np.reshape(K, (3, 3)))
    assert prior is None


def test_the_covariance_of_base_link_is_that_of_many_moved_cameras():
    rng = np.random.default_rng(0)
    motions = rng.multivariate_normal(np.zeros(6), COVARIANCE, 40_000)
    base = (CAMERA_IN_MAP @ BASE_IN_CAMERA)[:3, 3]
    arm = base - CAMERA_IN_MAP[:3, 3]
    places = motions[:, :3] + np.cross(motions[:, 3:], arm)  # small rotations about the map's axes
    sampled = np.cov(np.column_stack([places, motions[:, 3:]]).T)
    np.testing.assert_allclose(moved(FOUND, BASE_IN_CAMERA).covariance, sampled, atol=2e-5)


def test_map_to_odom_puts_the_robot_where_the_camera_was_found(start):
    bench = start(tf_ahead=0.0)
    answer = bench.good_image_passes()
    found = bench.transforms.lookup("map", "base_link", answer.header.stamp, timeout=20.0)
    np.testing.assert_allclose(found, CAMERA_IN_MAP @ BASE_IN_CAMERA, atol=1e-9)
    bench.transforms.close()


def test_map_to_odom_is_kept_while_the_camera_is_lost(bench, relocalizer):
    answer = bench.good_image_passes()
    relocalizer.fix = LOST
    message = bench.image(milliseconds=300)
    bench.images.publish(message)
    wait_for(lambda: bench.node.health.no_result == 1)
    expected = decode_pose(answer.pose.pose) @ se3.inverse(BASE_IN_ODOM)
    found = bench.transforms.lookup("map", "odom", message.header.stamp, timeout=20.0)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_without_odometry_the_pose_is_published_and_the_transform_is_not(bench):
    bench.info()
    message = bench.image(with_odometry=False)
    bench.images.publish(message)
    wait_for(lambda: bench.poses(message))
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "is not corrected"))
    bench.good_image_passes()


def test_odom_gets_no_second_parent(bench):
    bench.info()
    foreign = se3.make(np.eye(3), [9, 9, 9])
    bench.broadcaster.send(foreign, "map", "odom", bench.stamp())
    wait_for(lambda: knows(bench.node._transforms, "map", "odom"))
    message = bench.image()
    bench.images.publish(message)
    wait_for(lambda: bench.poses(message))
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "another node publishes 'map' -> 'odom'"))


def knows(transforms: Transforms, target: str, source: str) -> bool:
    try:
        transforms.lookup(target, source, rclpy.time.Time().to_msg())
    except RuntimeError:
        return False
    return True


def test_the_transform_can_be_switched_off(start):
    bench = start(publish_tf=False)
    bench.good_image_passes()
    bench.good_image_passes()
    assert not knows(bench.transforms, "map", "odom")
    bench.transforms.close()


def test_where_the_camera_stands_on_the_robot_is_never_made_up(start):
    bench = start(mounted=False, tf_timeout=0.05)
    bench.info()
    bench.images.publish(bench.image())
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, '"camera" passed to lookupTransform'))
    assert not bench.got["pose"]
    bench.transforms.close()


def test_without_a_base_frame_the_pose_is_the_camera_s_own(start):
    bench = start(mounted=False, base_frame="")
    answer = bench.good_image_passes()
    np.testing.assert_allclose(decode_pose(answer.pose.pose), CAMERA_IN_MAP, atol=1e-9)
    np.testing.assert_allclose(np.reshape(answer.pose.covariance, (6, 6)), COVARIANCE)
    bench.transforms.close()


def test_a_place_that_is_not_in_the_map_gives_no_pose_and_the_reason(bench, relocalizer):
    bench.info()
    relocalizer.fix = LOST
    bench.images.publish(bench.image())
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, LOST.reason))
    values = bench.diagnosis()
    assert (values["fix_valid"], values["fix_inliers"], values["fix_reason"]) == ("False", "0", LOST.reason)
    assert not bench.got["pose"]
    relocalizer.fix = FOUND
    bench.good_image_passes()
    values = bench.diagnosis()
    assert (values["fix_valid"], values["fix_inliers"], values["mode"]) == ("True", "123", "continuous")
    assert values["engine_backend"] == "fake"


def test_the_last_pose_is_where_the_next_is_looked_for_unless_it_is_old(bench, relocalizer):
    bench.good_image_passes()
    bench.good_image_passes()
    np.testing.assert_array_equal(relocalizer.seen[-1][2], CAMERA_IN_MAP)
    message = bench.image(milliseconds=3000)
    bench.images.publish(message)
    wait_for(lambda: bench.poses(message))
    assert relocalizer.seen[-1][2] is None


def test_an_image_before_its_camera_info_gives_nothing(bench):
    refused(bench, bench.image(), "no camera info came yet")


def test_a_camera_that_is_not_calibrated_is_told(bench):
    bench.info(k=[0.0] * 9)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "no valid K"))
    refused(bench, bench.image(), "no camera info came yet")


def test_an_unknown_lens_is_told(bench):
    bench.info(distortion_model="mirror")
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "distortion model 'mirror' is not known"))
    bench.good_image_passes()


def test_a_bent_image_is_straightened_before_it_is_looked_at(bench, relocalizer):
    bench.info(d=[-0.3, 0.1, 0.0, 0.0, 0.0])
    message = bench.image()
    bench.images.publish(message)
    wait_for(lambda: bench.poses(message))
    assert relocalizer.seen[0][0].shape == RGB.shape and not np.array_equal(relocalizer.seen[0][0], RGB)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda m: setattr(m, "encoding", "32FC1"), "encoding '32FC1' is not a colour image"),
        (lambda m: setattr(m, "data", array("B", m.data[:-1])), "truncated"),
        (lambda m: setattr(m, "step", 3), "shorter than a row"),
        (lambda m: setattr(m.header, "frame_id", ""), "no frame_id"),
        (lambda m: (setattr(m.header.stamp, "sec", 0), setattr(m.header.stamp, "nanosec", 0)), "stamp is zero"),
    ],
)
def test_images_that_cannot_be_used_are_rejected(bench, spoil, text):
    bench.info()
    message = bench.image()
    spoil(message)
    refused(bench, message, text)


def test_an_image_of_another_size_than_its_camera_is_rejected(bench):
    bench.info(width=64)
    refused(bench, bench.image(), "the image is 32 x 24, its camera info says 64 x 24")


def test_a_stale_stamp_is_rejected(bench):
    bench.good_image_passes()
    message = bench.image(milliseconds=-50)
    bench.clock += 10**9
    refused(bench, message, "before the last one")


def test_a_relocalizer_that_raises_or_gives_nan_is_an_error_and_not_the_end(bench, relocalizer):
    bench.info()
    relocalizer.error = KeyError("burnt")
    bench.images.publish(bench.image())
    wait_for(lambda: bench.node.health.failed == 1)
    relocalizer.error, relocalizer.fix = None, replace(FOUND, covariance=np.full((6, 6), np.nan))
    bench.images.publish(bench.image())
    wait_for(lambda: bench.node.health.failed == 2)
    assert not bench.got["pose"]
    relocalizer.fix = FOUND
    bench.good_image_passes()


def test_in_trigger_mode_an_image_is_looked_at_only_when_asked(start, relocalizer):
    bench = start(mode="trigger")
    bench.info()
    for _ in range(3):
        received = bench.node._worker.received
        bench.images.publish(bench.image())
        wait_for(lambda: bench.node._worker.received > received)  # noqa: B023
    answer = bench.call("localize", lambda: bench.images.publish(bench.image()))
    assert answer.success and answer.message == "found by 123 inliers"
    wait_for(lambda: bench.got["pose"])
    assert len(relocalizer.seen) == bench.node.health.processed == len(bench.got["pose"]) == 1
    relocalizer.fix = LOST
    answer = bench.call("localize", lambda: bench.images.publish(bench.image()))
    assert not answer.success and LOST.reason in answer.message
    bench.transforms.close()


def test_a_call_without_images_ends_with_the_reason(start):
    bench = start(mode="trigger", trigger_timeout=0.1)
    answer = bench.call("localize")
    assert not answer.success and answer.message == "nothing came to work on within 0.1 s"
    bench.transforms.close()


def test_the_map_is_switched_while_running(start, tmp_path):
    made = []

    def load(map_file, method, threads):
        if map_file.endswith("torn"):
            raise RuntimeError(f"{map_file} is damaged")
        made.append((map_file, FakeRelocalizer()))
        return made[-1][1]

    paths = [tmp_path / name for name in ("first", "second", "torn")]
    for path in paths:
        path.touch()
    bench = start(load=load, map_file=str(paths[0]))
    bench.good_image_passes()
    refusal = bench.node.set_parameters_atomically(overrides(map_file=str(tmp_path / "none")))
    assert not refusal.successful and "is no file" in refusal.reason
    bench.set(map_file=str(paths[2]))
    answer = bench.call("load_map")
    assert not answer.success and "torn is damaged" in answer.message
    bench.good_image_passes()
    assert bench.diagnosis()["map_file"] == str(paths[0]) and made[0][1].closed == 0
    bench.set(map_file=str(paths[1]))
    shown = len(bench.got["landmarks"])
    answer = bench.call("load_map")
    assert answer.success and answer.message == f"{paths[1]} is loaded: 4 landmarks"
    assert made[0][1].closed == 1
    bench.good_image_passes()
    assert len(made[1][1].seen) == 1 and made[1][1].seen[0][2] is None  # no prior from the former map
    wait_for(lambda: len(bench.got["landmarks"]) > shown)
    bench.transforms.close()


def test_landmarks_are_shown_in_the_map_s_frame(bench):
    cloud = bench.got["landmarks"][0]
    assert cloud.header.frame_id == "map"
    np.testing.assert_array_equal(decode_points(cloud)[:, :3], Landmarks.positions)


def test_without_a_map_it_says_how_to_make_one(context):  # noqa: F811
    node = RelocalizationNode(context=context, parameter_overrides=overrides(autostart=False))
    node.trigger_configure()
    assert node.state == "unconfigured"
    assert "perception map build" in node.transition_error
    node.destroy_node()


@pytest.fixture(scope="module")
def wall_map(tmp_path_factory):
    """File of the map of a textured wall."""
    frames = [view(pose, texture()) for pose in POSES]
    return SceneMap.build(frames, features="rootsift").save(tmp_path_factory.mktemp("map") / "wall.map")


def test_the_genuine_relocalizer_finds_its_wall_and_nothing_else(start, wall_map):
    """Views of the wall give the camera's place; black, blurred and foreign images give nothing."""
    bench = start(mounted=False, base_frame="", load=load_relocalizer, map_file=str(wall_map), prior_age=0.0)
    assert decode_points(bench.got["landmarks"][0]).shape[0] > 300
    bench.info(width=WIDTH, height=HEIGHT, k=MATRIX.ravel())
    truth = se3.make(np.eye(3), [0.11, 0.05, 0])
    wall = view(truth, texture()).rgb
    noise = np.random.default_rng(1).integers(0, 256, wall.shape, np.uint8)
    for count, rgb in enumerate((np.zeros_like(wall), cv2.blur(wall, (61, 61)), noise), start=1):
        bench.images.publish(encode_image(rgb, bench.header("camera")))
        wait_for(lambda: bench.node.health.no_result == count)  # noqa: B023
    assert not bench.got["pose"]
    assert "not found in the map" in bench.node.health.last_error
    bench.images.publish(encode_image(wall, bench.header("camera")))
    wait_for(lambda: bench.got["pose"])
    answer = bench.got["pose"][0]
    np.testing.assert_allclose(decode_pose(answer.pose.pose), truth, atol=0.01)
    assert (np.linalg.eigvalsh(np.reshape(answer.pose.covariance, (6, 6))) > 0).all()
    wait_for(lambda: {"features", "pose", "convert", "publish"} <= set(bench.node.timing.percentiles()))
    bench.transforms.close()


def test_every_key_of_the_parameter_file_is_a_parameter_with_that_default():
    declared = {ros_name(entry): entry.default for entry in fields(RelocalizationParameters)}
    file = yaml.safe_load((ROOT / "config/relocalization.yaml").read_text())
    assert file["/**"]["ros__parameters"] == declared


def test_lifecycle_cycles_leave_nothing_behind(start, relocalizer):
    bench = start()
    for _ in range(3):
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            getattr(bench.node, f"trigger_{transition}")()
    assert relocalizer.closed == 3
    bench.wait_until_connected()
    bench.good_image_passes()
    names = bench.client.get_node_names()
    assert names.count("relocalization_node_services") == 1 and names.count("relocalization_node_tf") == 1
    bench.transforms.close()
