# SPDX-License-Identifier: Apache-2.0
"""The registration node over real DDS: poses that scans confirm, nothing where they do not, and why."""

from __future__ import annotations

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from node_support import Bench, context, overrides, wait_for  # noqa: F401
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from perception_models.evaluation import odometry as errors
from perception_models.geometry import se3
from perception_models.registration import Registrar, Registration
from perception_models.registration.cloud_files import read_cloud
from perception_models.registration.map_builder import MapBuilder
from perception_models.simulation.drive import simulate_drive
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.messages import decode_pose, encode_points
from perception_nodes.point_clouds import decode_points
from perception_nodes.registration_node import RegistrationNode
from perception_nodes.stamps import nanoseconds
from perception_nodes.transforms import Broadcaster, Transforms

MOUNT = se3.from_yaw_pitch_roll(0.5, 0.02, 0, [1.1, 0.2, 1.7])  # of the sensor on base_link


class Blind:
    """A registrar that answers with `found`; remembers what it was asked."""

    def __init__(self) -> None:
        self.found = Registration(np.eye(4), False, reason="no correspondences agree")
        self.engine_info, self.timing, self.asked, self.closed = None, {"match": 1.0}, 0, 0

    def align(self, source, target):
        self.asked += 1
        return self.found

    def prepare(self, points):
        return points

    align_clouds = align

    def close(self) -> None:
        self.closed += 1


class RobotBench(Bench):
    """A robot with a LiDAR beside the node."""

    def connect(self) -> None:
        name = self.node.get_fully_qualified_name()
        for topic in ("points", "source", "target"):
            setattr(self, topic, self.client.create_publisher(PointCloud2, f"{name}/{topic}", 10))
        for topic, kind in (
            ("odometry", Odometry), ("path", Path), ("aligned", PointCloud2), ("pose", PoseWithCovarianceStamped),
        ):  # fmt: skip
            self.client.create_subscription(kind, f"{name}/{topic}", self.got[topic].append, 10)
        self.client.create_subscription(DiagnosticArray, "/diagnostics", self.got["diagnostics"].append, 10)
        self.broadcaster, self.statics = Broadcaster(self.client), Broadcaster(self.client, is_static=True)
        self.transforms = Transforms(self.client)

    def wait_until_connected(self) -> None:
        is_pair = self.node.parameters.mode == "pair"
        for publisher in (self.source, self.target) if is_pair else (self.points,):
            wait_for(lambda publisher=publisher: publisher.get_subscription_count() == 1)
        wait_for(lambda: all(self.node.is_wanted(f"~/{topic}") for topic in ("odometry", "path", "aligned", "pose")))

    def mount(self) -> None:
        self.statics.send(MOUNT, "base_link", "lidar", self.stamp(0))

    def play(self, points, times=None, topic="points", milliseconds=100):
        """Sends a cloud and waits until the node has dealt with it; gives back its header."""
        extra = {"time": times.astype(np.float32)} if times is not None else None
        cloud = encode_points(points, self.header("lidar", milliseconds), extra)
        health = self.node.health
        dealt = lambda: health.processed + health.rejected + health.no_result + health.failed  # noqa: E731
        before = dealt()
        getattr(self, topic).publish(cloud)
        wait_for(lambda: dealt() > before)
        return cloud.header

    def of(self, topic, header):
        """What came on a topic with the stamp of a header; waits for it."""
        wait_for(lambda: any(message.header.stamp == header.stamp for message in self.got[topic]))
        return next(message for message in self.got[topic] if message.header.stamp == header.stamp)

    def call(self, service):
        client = self.client.create_client(Trigger, f"{self.node.get_fully_qualified_name()}/{service}")
        assert client.wait_for_service(timeout_sec=30)
        answer = client.call_async(Trigger.Request())
        wait_for(answer.done)
        return answer.result()


@pytest.fixture
def start(context):  # noqa: F811
    """Function that spins a node with a registrar and parameters; gives back its RobotBench."""
    running = []

    def begin(registrar=None, active=True, **parameters) -> RobotBench:
        chosen = registrar or Blind()
        node = RegistrationNode(
            lambda *_: chosen, context=context, parameter_overrides=overrides(**parameters)
        )  # fmt: skip
        bench = RobotBench(node, Node("client", context=context))
        bench.connect()
        running.extend(
            [(BackgroundExecutor(bench.node, "node"), bench), (BackgroundExecutor(bench.client, "client"), None)]
        )
        bench.registrar, bench.clock = chosen, 100 * 10**9  # room for a step back
        if active:
            wait_for(lambda: node.state == "active")
            bench.wait_until_connected()
        return bench

    yield begin
    for executor, bench in reversed(running):
        executor.stop()
        if bench is not None:
            bench.transforms.close()
            bench.node.destroy_node()
            bench.client.destroy_node()


@pytest.fixture(scope="module")
def drive():
    return list(simulate_drive(3, 2.0, "vlp16"))


@pytest.fixture(scope="module")
def map_file(drive, tmp_path_factory):
    builder = MapBuilder(0.25, 1.0)
    for frame in drive:
        builder.add(se3.apply(frame.pose, frame.points[:, :3]).astype(np.float32), frame.pose)
    path = tmp_path_factory.mktemp("map") / "street.ply"
    builder.save(path)
    return path


def elsewhere():
    return next(simulate_drive(11, 0.1, "vlp16")).points


def test_odometry_follows_the_truth_of_base_link(start, drive) -> None:
    bench = start()
    bench.mount()
    headers = [bench.play(frame.points, frame.times) for frame in drive]
    messages = [bench.of("odometry", header) for header in headers]

    found = np.array([decode_pose(message.pose.pose) for message in messages])
    truth = np.array([frame.pose @ se3.inverse(MOUNT) for frame in drive])
    assert errors.absolute_error(found, truth) < 0.06
    start_ = se3.inverse(found[2]) @ found[-1]
    np.testing.assert_allclose(start_, se3.inverse(truth[2]) @ truth[-1], atol=0.1)
    last = messages[-1]
    assert (last.header.frame_id, last.child_frame_id) == ("odom", "base_link")
    speed = np.linalg.norm((truth[-1] - truth[-2])[:3, 3]) / 0.1
    assert abs(np.hypot(last.twist.twist.linear.x, last.twist.twist.linear.y) - speed) < 0.5
    assert (np.linalg.eigvalsh(np.reshape(last.pose.covariance, (6, 6))) > 0).all()


def test_the_same_pose_is_in_tf_and_the_path_and_the_cloud_lies_there(start, drive) -> None:
    bench = start()
    bench.mount()
    for frame in drive[:10]:
        header = bench.play(frame.points)
    message = bench.of("odometry", header)
    aligned = bench.of("aligned", header)

    pose = decode_pose(message.pose.pose)
    np.testing.assert_allclose(bench.transforms.lookup("odom", "base_link", header.stamp, 5.0), pose, atol=1e-9)
    path = bench.got["path"][-1]
    assert path.header.frame_id == aligned.header.frame_id == "odom"
    assert len(path.poses) >= 5
    points = se3.apply(pose @ MOUNT, drive[9].points[:, :3])
    np.testing.assert_allclose(decode_points(aligned)[:, :3], points, atol=0.3)  # placed at the stamp, or the middle


def test_without_a_base_frame_it_gives_the_sensor_itself(start, drive) -> None:
    bench = start(base_frame="", publish_tf=False)
    header = bench.play(drive[0].points)

    message = bench.of("odometry", header)
    assert message.child_frame_id == "lidar"
    np.testing.assert_array_equal(decode_pose(message.pose.pose), np.eye(4))


def test_without_the_mount_nothing_is_published(start, drive) -> None:
    bench = start(tf_timeout=0.0)
    bench.play(drive[0].points)

    assert "base_link" in bench.diagnosis()["last_error"]
    assert not bench.got["odometry"]


def test_what_cannot_be_placed_gives_no_pose_and_the_diagnostics_say_why(start, drive) -> None:
    bench = start(base_frame="")
    for frame in drive[:5]:
        bench.play(frame.points)
    sent = len(drive[:5])

    bench.play(np.zeros((0, 4), np.float32))
    wait_for(lambda: "empty" in bench.diagnosis()["last_error"])
    bench.play(np.full((100, 4), np.nan, np.float32))
    wait_for(lambda: "finite" in bench.diagnosis()["last_error"])
    bench.play(elsewhere())
    wait_for(lambda: bench.diagnosis()["lost"] == "True")

    assert "of the scan" in bench.diagnosis()["reason"] or "looks like" in bench.diagnosis()["reason"]
    assert bench.was_diagnosed(DiagnosticStatus.WARN, "lost")
    assert bench.registrar.asked > 0
    header = bench.play(drive[5].points)
    bench.of("odometry", header)
    assert len(bench.got["odometry"]) == sent + 1
    assert bench.diagnosis()["lost"] == "False"


def test_times_from_another_clock_are_rejected_unless_deskew_is_off(start, drive) -> None:
    bench = start(base_frame="")
    frame = drive[0]
    bench.play(frame.points, frame.times + 50)
    assert "from the stamp" in bench.diagnosis()["last_error"]

    bench.set(deskew=False)
    bench.of("odometry", bench.play(frame.points, frame.times + 50))


def test_a_source_that_starts_again_begins_at_the_origin(start, drive) -> None:
    bench = start(base_frame="")
    for frame in drive[:6]:
        bench.play(frame.points)

    header = bench.play(drive[0].points, milliseconds=-5000)

    np.testing.assert_array_equal(decode_pose(bench.of("odometry", header).pose.pose), np.eye(4))


def test_reset_begins_anew(start, drive) -> None:
    bench = start(base_frame="")
    for frame in drive[:6]:
        bench.play(frame.points)

    assert bench.call("reset").success
    header = bench.play(drive[6].points)

    np.testing.assert_array_equal(decode_pose(bench.of("odometry", header).pose.pose), np.eye(4))


def test_the_map_is_saved_where_it_was_asked_for(start, drive, tmp_path) -> None:
    path = tmp_path / "street.ply"
    bench = start(base_frame="", save_file=str(path))
    assert not bench.call("save_map").success
    for frame in drive[:6]:
        bench.play(frame.points)

    answer = bench.call("save_map")

    assert answer.success, answer.message
    saved = read_cloud(path)
    assert f"{len(saved.points)} points" in answer.message
    np.testing.assert_allclose(saved.viewpoints[0], 0, atol=1e-6)


def test_in_pair_mode_the_source_is_found_in_the_target(start, drive) -> None:
    bench = start(Registrar.load("classical", scale="lidar"), mode="pair")
    turn = se3.from_yaw_pitch_roll(2.0, 0, 0)
    source = np.array(drive[8].points)
    source[:, :3] = se3.apply(se3.inverse(turn), source[:, :3])
    bench.play(source, topic="source")
    assert "~/target" in bench.diagnosis()["last_error"]

    bench.target.publish(encode_points(drive[0].points, bench.header("place")))
    wait_for(lambda: bench.node._target is not None)
    message = bench.of("pose", bench.play(source, topic="source"))

    true = se3.inverse(drive[0].pose) @ drive[8].pose @ turn
    assert message.header.frame_id == "place"
    np.testing.assert_allclose(decode_pose(message.pose.pose), true, atol=0.6)  # sweeps that were not straightened


def test_a_pair_that_does_not_fit_gives_no_pose(start, drive) -> None:
    bench = start(mode="pair")
    bench.target.publish(encode_points(drive[0].points, bench.header("place")))
    wait_for(lambda: bench.node._target is not None)

    bench.play(drive[1].points, topic="source")

    assert "no correspondences agree" in bench.diagnosis()["last_error"]
    assert not bench.got["pose"]


def test_in_a_map_it_is_found_lost_and_found_again_after_a_kidnapping(start, drive, map_file) -> None:
    bench = start(Registrar.load("classical", scale="lidar"), mode="map", map_file=str(map_file), odom_frame="")
    bench.mount()
    turn = se3.from_yaw_pitch_roll(2.0, 0, 0)

    first = bench.of("pose", bench.play(drive[2].points, drive[2].times))
    bench.play(elsewhere())
    assert bench.diagnosis()["lost"] == "True"
    kidnapped = np.array(drive[15].points)
    kidnapped[:, :3] = se3.apply(se3.inverse(turn), kidnapped[:, :3])
    header = bench.play(kidnapped)
    again = bench.of("pose", header)

    assert first.header.frame_id == "map"
    for message, true in ((first, drive[2].pose), (again, drive[15].pose @ turn)):
        off = se3.inverse(true @ se3.inverse(MOUNT)) @ decode_pose(message.pose.pose)
        assert np.linalg.norm(off[:3, 3]) < 0.8  # up to a sweep's way: where in the sweep the pose is meant
        assert se3.rotation_angle(off) < 0.03
    assert bench.diagnosis()["lost"] == "False"
    np.testing.assert_allclose(
        bench.transforms.lookup("map", "base_link", header.stamp, 5.0), decode_pose(again.pose.pose), atol=1e-9
    )


def test_in_a_map_the_odometry_of_another_node_is_corrected(start, drive, map_file) -> None:
    bench = start(Registrar.load("classical", scale="lidar"), mode="map", map_file=str(map_file))
    bench.mount()
    base_in_odom = se3.from_yaw_pitch_roll(1.0, 0, 0, [7, 7, 0])
    stamp = bench.stamp(0)
    for milliseconds in (0, 1000):  # odometry goes on beyond the scan
        at = nanoseconds(stamp) + milliseconds * 10**6
        later = type(stamp)(sec=at // 10**9, nanosec=at % 10**9)
        bench.broadcaster.send(base_in_odom, "odom", "base_link", later)

    header = bench.play(drive[2].points, drive[2].times)
    pose = decode_pose(bench.of("pose", header).pose.pose)

    found = bench.transforms.lookup("map", "odom", header.stamp, 5.0)
    np.testing.assert_allclose(found @ base_in_odom, pose, atol=1e-6)


def test_a_map_that_is_not_there_is_named_before_anything_starts(context) -> None:  # noqa: F811
    with pytest.raises(ValueError, match=r"/nowhere\.pcd"):
        RegistrationNode(context=context, parameter_overrides=overrides(mode="map", map_file="/nowhere.pcd"))


def test_cleanup_gives_everything_back_and_the_node_can_begin_again(start, drive) -> None:
    bench = start(base_frame="")
    for _ in range(3):
        bench.of("odometry", bench.play(drive[0].points))
        bench.node.trigger_deactivate()
        bench.node.trigger_cleanup()
        wait_for(lambda: bench.points.get_subscription_count() == 0)
        bench.node.trigger_configure()
        bench.node.trigger_activate()
        bench.wait_until_connected()

    assert bench.registrar.closed == 3
    assert bench.node.state == "active"
