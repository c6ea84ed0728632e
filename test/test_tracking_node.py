# SPDX-License-Identifier: Apache-2.0
"""The tracking node over real DDS: targets come and go while it runs, bad starts are told, what is lost is not
published."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point, PointStamped
from nav_msgs.msg import Path as PathMessage
from node_support import Bench, FakeInfo, context, overrides, wait_for  # noqa: F401
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection3D, Detection3DArray
from visualization_msgs.msg import MarkerArray

from perception_models.detection import Detections
from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_models.tracking import TrackState
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.messages import decode_detections, decode_ids, encode_detections
from perception_nodes.parameters import ros_name
from perception_nodes.tracking_display import GREY
from perception_nodes.tracking_model import TrackingParameters
from perception_nodes.tracking_node import TrackingNode
from perception_nodes.tracking_starts import distance
from perception_nodes.transforms import Broadcaster

ROOT = Path(__file__).resolve().parent.parent
CAR = np.array([10, 2, -1, 4.5, 1.9, 1.6, 0.5], np.float32)
PERSON = np.array([5, -3, -0.8, 0.6, 0.7, 1.7, -2.0], np.float32)
STEP = np.array([0.5, 0, 0, 0, 0, 0, 0], np.float32)  # m that everything moves a scan
CAPACITY = 3


class FakeTracker:
    """Follows everything STEP by STEP; loses what is in `lost`; remembers how it was told that the sensor moved."""

    def __init__(self) -> None:
        self.boxes: dict[str, np.ndarray] = {}
        self.lost: set[str] = set()
        self.told: list[tuple] = []
        self.error: Exception | None = None
        self.engine_info, self.timing, self.closed = FakeInfo(), {"inference": 2.0}, 0

    def add(self, identity, points, box) -> None:
        if identity in self.boxes:
            raise ValueError(f"the target '{identity}' is followed already")
        if len(self.boxes) == CAPACITY:
            raise ValueError(f"there is room for {CAPACITY} targets")
        if np.abs(box[:2]).max() > 50:
            raise ValueError("no point is in the box")
        self.boxes[identity] = box

    def remove(self, identity) -> None:
        del self.boxes[identity]

    def track(self, points, ego_motion=None, seconds=0.1):
        self.told.append((ego_motion, seconds))
        if self.error is not None:
            raise self.error
        self.boxes = {identity: box + STEP for identity, box in self.boxes.items()}
        return {i: TrackState(b, 0.9, i in self.lost, "hidden" * (i in self.lost)) for i, b in self.boxes.items()}

    def close(self) -> None:
        self.closed += 1


class TargetBench(Bench):
    """A robot that sees boxes, and its operator."""

    def connect(self) -> None:
        name, many = self.node.get_fully_qualified_name(), QoSProfile(depth=50)
        kinds = {"points": PointCloud2, "start": Detection3D, "start_id": String, "stop": String}
        kinds |= {"detections": Detection3DArray, "clicked_point": PointStamped}
        self.to = {topic: self.client.create_publisher(kind, f"{name}/{topic}", many) for topic, kind in kinds.items()}
        for topic, kind in (("tracks", Detection3DArray), ("path", PathMessage), ("markers", MarkerArray)):
            self.client.create_subscription(kind, f"{name}/{topic}", self.got[topic].append, 10)
        self.client.create_subscription(DiagnosticArray, "/diagnostics", self.got["diagnostics"].append, 10)
        self.broadcaster = Broadcaster(self.client)

    def wait_until_connected(self) -> None:
        wait_for(lambda: all(publisher.get_subscription_count() == 1 for publisher in self.to.values()))
        wait_for(lambda: all(self.node.is_wanted(f"~/{topic}") for topic in ("tracks", "path", "markers")))

    def scan(self, milliseconds: int = 100) -> dict[str, np.ndarray]:
        """Sends a cloud; gives back the box of each track that came for it."""
        cloud = self.cloud(milliseconds=milliseconds)
        self.to["points"].publish(cloud)
        wait_for(lambda: any(m.header == cloud.header for m in self.got["tracks"]))
        self.message = next(m for m in self.got["tracks"] if m.header == cloud.header)
        return dict(zip(decode_ids(self.message), decode_detections(self.message).boxes, strict=True))

    def ask(self, topic: str, message) -> None:
        """Sends a command and waits until the node has looked at it."""
        before = self.node._worker.received
        self.to[topic].publish(message)
        wait_for(lambda: self.node._worker.received > before and not self.node._worker._slots)
        with self.node._busy:
            pass

    def detection(self, box=CAR, identity="", frame="lidar", stamp=None, name="vehicle") -> Detection3D:
        """A detection as of the last cloud."""
        header = Header(stamp=stamp or self.stamp(0), frame_id=frame)
        found = Detections(np.array([box], np.float32), np.ones(1, np.float32), np.array([0]), (name,))
        return encode_detections(found, header, [identity]).detections[0]

    def offer(self, *named: tuple[str, np.ndarray]) -> None:
        """Sends what a detector found in the last cloud."""
        boxes = np.array([box for _, box in named], np.float32)
        found = Detections(boxes, np.ones(len(named), np.float32), np.arange(len(named)) % 2, ("vehicle", "pedestrian"))
        header = Header(stamp=self.stamp(0), frame_id="lidar")
        self.ask("detections", encode_detections(found, header, [identity for identity, _ in named]))

    def click(self, x: float, y: float, frame: str = "lidar") -> None:
        self.ask("clicked_point", PointStamped(header=Header(frame_id=frame), point=Point(x=x, y=y, z=0.0)))

    def refused(self, text: str) -> None:
        """The last command was refused for this reason."""
        wait_for(lambda: text in self.node.health.last_error)


@pytest.fixture
def start(context):  # noqa: F811
    """Function that spins a node with parameters; gives back its TargetBench."""
    running = []

    def begin(**parameters) -> TargetBench:
        tracker = FakeTracker()
        node = TrackingNode(lambda _: tracker, context=context, parameter_overrides=overrides(**parameters))
        bench = TargetBench(node, Node("client", context=context))
        bench.tracker, bench.clock = tracker, 100 * 10**9
        bench.connect()
        running.extend([(BackgroundExecutor(bench.node, "node"), bench.node)])
        running.extend([(BackgroundExecutor(bench.client, "client"), bench.client)])
        wait_for(lambda: node.state == "active")
        bench.wait_until_connected()
        return bench

    yield begin
    for executor, node in reversed(running):
        executor.stop()
        node.destroy_node()


def test_targets_are_added_and_removed_while_it_runs(start) -> None:
    bench = start()
    assert bench.scan() == {}
    bench.ask("start", bench.detection(CAR, "7"))
    bench.ask("start", bench.detection(PERSON, name="pedestrian"))  # in the same cloud, without an id
    tracks = bench.scan()
    assert list(tracks) == ["7", "target_1"]
    np.testing.assert_allclose(tracks["7"], CAR + STEP, atol=1e-5)
    found = decode_detections(bench.message)
    assert [found.names[label] for label in found.labels] == ["vehicle", "pedestrian"]
    assert found.scores.tolist() == pytest.approx([0.9, 0.9])

    bench.ask("stop", String(data="7"))
    assert list(bench.scan()) == ["target_1"]
    bench.ask("stop", String(data="7"))
    bench.refused("no target is called '7'; there is target_1")

    bench.ask("start", bench.detection(CAR, "9"))
    client = bench.client.create_client(Trigger, "/tracking_node/stop_all")
    assert client.wait_for_service(timeout_sec=30)
    answer = client.call_async(Trigger.Request())
    wait_for(answer.done)
    assert answer.result().message == "2 targets are followed no longer"
    assert bench.scan() == {} and not bench.tracker.boxes


def test_a_start_waits_for_its_cloud_and_counts_from_it(start) -> None:
    bench = start()
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7", stamp=bench.stamp(100)))
    assert not bench.tracker.boxes
    np.testing.assert_allclose(bench.scan(milliseconds=0)["7"], CAR)
    np.testing.assert_allclose(bench.scan()["7"], CAR + STEP, atol=1e-5)


def test_bad_starts_are_told_and_the_others_run_on(start) -> None:
    bench = start()
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7"))
    flat, unsized = bench.detection(CAR, "8"), bench.detection(CAR, "8")
    flat.bbox.size.z = 0.0
    unsized.bbox.center.position.x = float("nan")
    bad = [
        (flat, "is not three positive lengths"),
        (unsized, "is not finite"),
        (bench.detection(CAR, "8", frame=""), "no frame_id"),
        (
            bench.detection(CAR, "8", frame="moon"),
            "8 is not followed: the box is in the frame 'moon', the clouds are in 'lidar'",
        ),
        (bench.detection(CAR + [90, 0, 0, 0, 0, 0, 0], "8"), "8 is not followed: no point is in the box"),
        (bench.detection(CAR, "7"), "'7' is followed already"),
    ]
    for message, text in bad:
        bench.ask("start", message)
        bench.refused(text)
    old = bench.detection(CAR, "8")
    for _ in range(6):
        bench.scan()
    bench.ask("start", old)
    bench.refused("its box is 0.60 s older than the newest cloud")
    for identity in ("a", "b", "c"):
        bench.ask("start", bench.detection(PERSON, identity))
    bench.refused("there is room for 3 targets")
    np.testing.assert_allclose(bench.scan()["7"], CAR + 7 * STEP, atol=1e-4)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "is not followed"))


def test_a_detection_is_followed_by_its_id_or_by_a_click_near_it(start) -> None:
    bench = start()
    bench.ask("start_id", String(data="12"))
    bench.refused("nothing came on ~/detections yet")
    bench.scan()
    bench.offer(("12", CAR), ("", PERSON))
    bench.ask("start_id", String(data="13"))
    bench.refused("no detection has the id '13'; those on ~/detections have 12")
    bench.ask("start_id", String(data="12"))
    bench.click(0.0, 9.0)
    bench.refused("no detection is within 1 m of the click; the nearest is")
    bench.click(5.5, -3.4)
    tracks = bench.scan()
    assert list(tracks) == ["12", "target_1"]
    np.testing.assert_allclose(tracks["target_1"], PERSON + STEP, atol=1e-5)
    bench.click(5.0, -3.0, frame="moon")
    bench.refused("does not exist; is it published on /tf?")


def test_what_is_lost_is_told_not_published_and_dropped_after_a_while(start) -> None:
    bench = start(forget_after=0.35)
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7"))
    bench.ask("start", bench.detection(PERSON, "8"))
    bench.tracker.lost = {"7"}
    assert list(bench.scan()) == ["8"]
    values = bench.diagnosis()
    assert values["target_7"] == "lost for 0.1 s: hidden" and values["target_8"] == "followed, 0.90"
    wait_for(lambda: len(bench.got["markers"]) >= 2)
    grey = {marker.ns for marker in bench.got["markers"][-1].markers if marker.color.a == pytest.approx(GREY.a)}
    assert "7 vehicle lost" in grey and not any("8" in name for name in grey)
    bench.tracker.lost = set()
    assert list(bench.scan()) == ["7", "8"]
    bench.tracker.lost = {"7"}
    for _ in range(4):
        bench.scan()
    assert list(bench.tracker.boxes) == ["8"]
    assert "target '7' is dropped: lost for 0.4 s: hidden" in bench.node.health.last_error


def test_boxes_that_are_not_finite_are_never_published(start) -> None:
    bench = start()
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7"))
    bench.ask("start", bench.detection(PERSON, "8"))
    bench.tracker.boxes["7"] = bench.tracker.boxes["7"] * np.nan
    assert list(bench.scan()) == ["8"]
    assert "not finite" in bench.diagnosis()["target_7"]


def test_the_tracker_is_told_how_the_sensor_moved_where_tf_knows_it(start) -> None:
    bench = start()
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7"))
    bench.scan()
    assert bench.tracker.told == [(None, pytest.approx(0.1))]
    assert bench.diagnosis()["ego_motion"].startswith("not known: ")

    poses = [se3.from_yaw_pitch_roll(0.1 * k, 0, 0, [1.5 * k, 0, 0]) for k in range(4)]
    for pose in poses:  # each is there before its cloud
        bench.broadcaster.send(pose, "odom", "lidar", bench.stamp(100))
        wait_for(lambda: _knows(bench))
        bench.scan(milliseconds=0)
    np.testing.assert_allclose(bench.tracker.told[-1][0], se3.inverse(poses[-2]) @ poses[-1], atol=1e-9)
    assert bench.diagnosis()["ego_motion"] == "TF, in 'odom'"
    wait_for(lambda: bench.got["path"])
    path = bench.got["path"][-1]
    assert path.header.frame_id == "odom"
    box = transform_boxes(bench.tracker.boxes["7"][None].astype(float), poses[-1])[0]
    last = path.poses[-1].pose.position
    np.testing.assert_allclose([last.x, last.y, last.z], box[:3], atol=1e-4)


def _knows(bench) -> bool:
    """Whether TF covers the last stamp."""
    try:
        bench.node._transforms.lookup("odom", "lidar", bench.stamp(0))
    except Exception:  # noqa: BLE001
        return False
    return True


def test_a_box_in_another_frame_is_brought_to_the_clouds(start) -> None:
    bench = start(fixed_frame="odom")
    pose = se3.from_yaw_pitch_roll(0.7, 0, 0, [3.0, 1.0, 0.5])
    bench.broadcaster.send(pose, "odom", "lidar", bench.stamp(100))
    wait_for(lambda: _knows(bench))
    bench.scan(milliseconds=0)
    in_odom = transform_boxes(CAR[None].astype(float), pose)[0]
    bench.ask("start", bench.detection(in_odom, "7", frame="odom"))
    np.testing.assert_allclose(bench.tracker.boxes["7"], CAR, atol=1e-4)


def test_all_detections_with_an_id_are_followed_once_where_that_is_wanted(start) -> None:
    bench = start(start_all=True, start_points=3)
    full = np.array([0, 0, 0, 60, 60, 60, 0], np.float32)  # around the sensor: most of the cloud is in it
    bench.scan()
    bench.offer(("1", full), ("2", CAR * [1, 1, 1, 0.01, 0.01, 0.01, 1]), ("", full))
    assert list(bench.tracker.boxes) == ["1"]
    bench.ask("stop", String(data="1"))
    bench.scan()
    bench.offer(("1", full))
    assert not bench.tracker.boxes


def test_a_source_that_starts_again_is_followed_by_nobody(start) -> None:
    bench = start()
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7"))
    bench.clock -= 50 * 10**9
    assert bench.scan() == {} and not bench.tracker.boxes
    assert "jumped back" in bench.node.health.last_error


def test_a_tracker_that_raises_is_an_error_and_not_the_end(start) -> None:
    bench = start()
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7"))
    bench.tracker.error = RuntimeError("the engine burnt")
    bench.to["points"].publish(bench.cloud())
    wait_for(lambda: bench.node.health.failed == 1)
    bench.tracker.error = None
    assert list(bench.scan()) == ["7"]


def test_it_begins_with_nothing_after_a_cleanup(start) -> None:
    bench = start()
    bench.scan()
    bench.ask("start", bench.detection(CAR, "7"))
    bench.node.trigger_deactivate(), bench.node.trigger_cleanup()
    bench.tracker.boxes.clear()
    assert bench.tracker.closed == 1
    bench.node.trigger_configure(), bench.node.trigger_activate()
    bench.wait_until_connected()
    assert bench.scan() == {}


def test_the_distance_to_a_box_is_that_of_its_nearest_point_from_above() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        box = np.array([*rng.uniform(-3, 3, 3), *rng.uniform(0.5, 4, 3), rng.uniform(-3, 3)])
        place = rng.uniform(-6, 6, 3)
        u, v = np.meshgrid(np.linspace(-0.5, 0.5, 200) * box[3], np.linspace(-0.5, 0.5, 200) * box[4])
        c, s = np.cos(box[6]), np.sin(box[6])
        brute = np.hypot(box[0] + u * c - v * s - place[0], box[1] + u * s + v * c - place[1]).min()
        assert distance(place, box) == pytest.approx(brute, abs=0.02)


def test_every_key_of_the_parameter_file_is_a_parameter_with_that_default() -> None:
    declared = {ros_name(entry): entry.default for entry in fields(TrackingParameters)}
    file = yaml.safe_load((ROOT / "config" / "tracking.yaml").read_text())
    assert file["/**"]["ros__parameters"] == declared
