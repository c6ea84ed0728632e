# SPDX-License-Identifier: Apache-2.0
"""The segmentation node over real DDS: objects with ids that stay, and views that are left out with their reason."""

from __future__ import annotations

from array import array
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from boxes_support import HEIGHT, MATRIX, WIDTH, TrueParts, around
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Point, PointStamped
from node_support import Bench, context, overrides, wait_for  # noqa: F401
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame, unproject
from perception_models.segmentation.online import InstanceMap
from perception_models.segmentation.online_settings import OnlineSettings
from perception_nodes.companions import Companions
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.images import decode_labels, encode_image
from perception_nodes.key_frames import KeyFrames
from perception_nodes.messages import decode_detections, decode_ids, encode_points
from perception_nodes.parameters import ros_name
from perception_nodes.point_clouds import decode_points, read_field
from perception_nodes.segmentation_display import colours_of
from perception_nodes.segmentation_node import SegmentationNode, SegmentationParameters
from perception_nodes.transforms import Broadcaster

ROOT = Path(__file__).resolve().parent.parent
EVERY = {"key_distance": 0.0, "key_angle": 0.0, "key_time": 0.0}
LIDAR_IN_CAMERA = se3.from_yaw_pitch_roll(0.3, -0.2, 1.4, [0.1, -0.05, 0.02])
RESULTS = {
    "labelled_points": PointCloud2,
    "label_image": Image,
    "detections": Detection3DArray,
    "markers": MarkerArray,
    "prompted_points": PointCloud2,
}


class SegmentationBench(Bench):
    """A robot with a depth camera that goes around boxes, beside the node."""

    def connect(self, parts: TrueParts) -> None:
        name = self.node.get_fully_qualified_name()
        self.parts, self.angle = parts, 0.0
        for topic, kind in {"image": Image, "depth": Image, "points": PointCloud2, "camera_info": CameraInfo}.items():
            setattr(self, topic, self.client.create_publisher(kind, f"{name}/{topic}", 10))
        self.clicks = self.client.create_publisher(PointStamped, f"{name}/clicked_point", 10)
        for topic, kind in RESULTS.items():
            self.client.create_subscription(kind, f"{name}/{topic}", self.got[topic].append, 10)
        self.client.create_subscription(DiagnosticArray, "/diagnostics", self.got["diagnostics"].append, 10)
        self.broadcaster = Broadcaster(self.client)

    def wait_until_connected(self) -> None:
        wait_for(lambda: self.image.get_subscription_count() == self.camera_info.get_subscription_count() == 1)
        wait_for(lambda: self.depth.get_subscription_count() + self.points.get_subscription_count() == 1)
        wait_for(lambda: all(self.node.is_wanted(f"~/{topic}") for topic in RESULTS))

    def info(self, **changes) -> None:
        """Sends a camera info and waits until the node has looked at it."""
        message = CameraInfo(header=self.header("camera"), width=WIDTH, height=HEIGHT, k=MATRIX.ravel(), d=[0.0] * 5)
        message.distortion_model = "plumb_bob"
        for key, value in changes.items():
            setattr(message, key, value)
        before = self.node.health.rejected
        self.node._camera_info = None
        self.camera_info.publish(message)
        wait_for(lambda: self.node._camera_info is not None or self.node.health.rejected > before)

    def next_view(self) -> RgbdFrame:
        """The camera goes on."""
        self.angle += 0.15
        return self.parts.view(around(self.angle))

    def send(self, frame: RgbdFrame, with_pose: bool = True, with_depth: bool = True, milliseconds: int = 100) -> Image:
        """A view with the next stamp: its pose on /tf, its depth, its image."""
        header = self.header("camera", milliseconds)
        if with_pose:
            self.broadcaster.send(frame.pose, "map", "camera", header.stamp)
        if with_depth:
            self.depth.publish(encode_image(frame.depth, header))
        message = encode_image(frame.rgb, header)
        self.image.publish(message)
        return message

    def answers(self, topic: str, message: Image) -> list:
        """What came back on a topic for an image."""
        return [answer for answer in self.got[topic] if answer.header.stamp == message.header.stamp]

    def good_view_passes(self) -> Image:
        self.info()
        message = self.send(self.next_view())
        wait_for(lambda: self.answers("label_image", message) and self.answers("detections", message))
        return message

    def call(self, service: str) -> Trigger.Response:
        """Calls a service of the node."""
        client = self.client.create_client(Trigger, f"{self.node.get_fully_qualified_name()}/{service}")
        assert client.wait_for_service(timeout_sec=30)
        answer = client.call_async(Trigger.Request())
        wait_for(answer.done)
        return answer.result()

    def click(self, place, frame: str = "map") -> None:
        x, y, z = map(float, place)
        self.clicks.publish(PointStamped(header=self.header(frame, 0), point=Point(x=x, y=y, z=z)))


@pytest.fixture
def parts():
    return TrueParts()


@pytest.fixture
def start(context, parts):  # noqa: F811
    """Function that brings up the node with parameters; its map stands on parts that know the truth."""
    running = []

    def make_map(p: SegmentationParameters) -> InstanceMap:
        return InstanceMap(parts, OnlineSettings(voxel=p.voxel, stride=1, max_depth=2.6, smallest=p.smallest))

    def start(**parameters) -> SegmentationBench:
        given = {"tf_timeout": 5.0, "depth_timeout": 5.0, "cloud_period": 0.0, **EVERY, **parameters}
        node = SegmentationNode(make_map, context=context, parameter_overrides=overrides(**given))
        bench = SegmentationBench(node, Node("client", context=context))
        bench.connect(parts)
        running.append((BackgroundExecutor(node, "node"), node))
        running.append((BackgroundExecutor(bench.client, "client"), bench.client))
        wait_for(lambda: node.state == "active")
        bench.wait_until_connected()
        return bench

    yield start
    for executor, node in reversed(running):
        executor.stop()
        node.destroy_node()


@pytest.fixture
def bench(start):
    return start()


def refused(bench: SegmentationBench, text: str) -> None:
    """The view that was sent gives nothing but a warning that has this text; the map stays and the node goes on."""
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, text))
    assert not bench.got["label_image"] and not bench.got["detections"]
    assert len(bench.node.model) == 0
    values = bench.diagnosis()
    assert values["left_out"] == "1" and text in values["left_out_reason"]
    bench.set(depth_timeout=5.0, tf_timeout=5.0)
    bench.good_view_passes()


def test_a_view_gives_labels_boxes_a_cloud_and_markers_with_the_same_ids(bench):
    message = bench.good_view_passes()
    label_image, detections = bench.answers("label_image", message)[0], bench.answers("detections", message)[0]
    labels, ids = decode_labels(label_image), [int(identity) for identity in decode_ids(detections)]
    assert label_image.encoding == "32SC1" and labels.shape == (HEIGHT, WIDTH)
    assert label_image.header == message.header and detections.header.frame_id == "map"
    truth = bench.parts.truth[bytes(message.data)]
    for number in (1, 2, 3):
        assert np.bincount(labels[truth == number]).argmax() in ids
    wait_for(lambda: bench.answers("labelled_points", message))
    cloud = bench.answers("labelled_points", message)[0]
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "label"]
    in_cloud = read_field(cloud, "label").ravel()
    np.testing.assert_array_equal(in_cloud, bench.node.model.ids)
    np.testing.assert_allclose(decode_points(cloud)[:, :3], bench.node.model.voxels.points)
    packed = np.ascontiguousarray(read_field(cloud, "rgb").ravel()).view(np.uint32)
    shown = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
    np.testing.assert_array_equal(shown, colours_of(in_cloud))
    wait_for(lambda: bench.got["markers"])
    texts = [m.text for m in bench.got["markers"][-1].markers if m.type == Marker.TEXT_VIEW_FACING]
    assert sorted(int(text.split()[1]) for text in texts) == sorted(ids)


def test_ids_stay_while_the_camera_goes_around(bench):
    bench.info()
    found = []
    for _ in range(6):
        message = bench.send(bench.next_view())
        wait_for(lambda: bench.answers("label_image", message))  # noqa: B023
        labels, truth = decode_labels(bench.answers("label_image", message)[0]), bench.parts.truth[bytes(message.data)]
        found.append([int(np.bincount(labels[truth == number]).argmax()) for number in (1, 2, 3)])
    assert all(one == found[0] for one in found) and 0 not in found[0]
    boxes = decode_detections(bench.got["detections"][-1]).boxes
    assert len(boxes) >= 3 and boxes[:, 3:6].max() <= 3.0


def test_large_things_are_no_objects_unless_they_are_asked_for(bench):
    bench.good_view_passes()
    bench.set(largest=1.0)
    few = bench.answers("detections", bench.good_view_passes())[0]
    assert decode_detections(few).boxes[:, 3:6].max() <= 1.0
    bench.set(largest=100.0)
    all_ = bench.answers("detections", bench.good_view_passes())[0]
    assert decode_detections(all_).boxes[:, 3].max() > 2.0  # the floor


def test_a_view_without_depth_is_left_out(bench):
    bench.set(depth_timeout=0.1)
    bench.info()
    bench.send(bench.next_view(), with_depth=False)
    refused(bench, "the view has no depth: nothing came on its topic yet")


def test_depth_of_another_moment_is_not_taken(bench):
    bench.set(depth_timeout=0.1)
    bench.info()
    frame = bench.next_view()
    bench.depth.publish(encode_image(frame.depth, bench.header("camera")))
    bench.send(frame, with_depth=False)
    refused(bench, "the nearest is 0.100 s away")


def test_depth_that_comes_after_its_image_is_waited_for(bench):
    bench.info()
    frame = bench.next_view()
    message = bench.send(frame, with_depth=False)
    bench.depth.publish(encode_image(frame.depth, message.header))
    wait_for(lambda: bench.answers("label_image", message))


def test_a_view_without_pose_is_left_out(bench):
    bench.set(tf_timeout=0.05)
    bench.info()
    bench.send(bench.next_view(), with_pose=False)
    refused(bench, '"map" passed to lookupTransform')


def test_a_stale_pose_is_not_taken(bench):
    """The camera moves on while the last pose on /tf is of before: nothing changes."""
    bench.good_view_passes()
    held = len(bench.node.model)
    bench.set(tf_timeout=0.05)
    message = bench.send(bench.next_view(), with_pose=False)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "extrapolation"))
    assert len(bench.node.model) == held and not bench.answers("label_image", message)
    bench.set(tf_timeout=5.0)
    bench.good_view_passes()


def test_a_pose_that_jumped_is_left_out(bench):
    bench.good_view_passes()
    held = len(bench.node.model)
    frame = bench.next_view()
    jumped = replace(frame, pose=frame.pose @ se3.make(np.eye(3), [0, 0, -0.8]))
    message = bench.send(jumped)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "the view is left out: depth contradicts"))
    assert len(bench.node.model) == held and not bench.answers("label_image", message)
    bench.good_view_passes()


def test_a_covered_camera_is_left_out(bench):
    bench.info()
    frame = bench.next_view()
    bench.send(replace(frame, rgb=np.zeros_like(frame.rgb)))
    refused(bench, "the image is black")


def test_an_image_before_its_camera_info_is_left_out(bench):
    bench.send(bench.next_view())
    refused(bench, "no camera info came yet")


def test_a_camera_that_is_not_calibrated_is_told(bench):
    bench.info(k=[0.0] * 9)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "no valid K"))
    bench.good_view_passes()


def test_a_change_of_resolution_is_refused_until_the_camera_info_follows(bench):
    bench.good_view_passes()
    held = len(bench.node.model)
    frame = bench.next_view()
    small = replace(frame, rgb=np.ascontiguousarray(frame.rgb[::2, ::2]), depth=frame.depth[::2, ::2].copy())
    bench.parts.truth[small.rgb.tobytes()] = bench.parts.truth[frame.rgb.tobytes()][::2, ::2]
    bench.send(small)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "the image is 80 x 60, its camera info says 160 x 120"))
    assert len(bench.node.model) == held
    matrix = MATRIX / [[2], [2], [1]]
    bench.info(width=WIDTH // 2, height=HEIGHT // 2, k=matrix.ravel())
    message = bench.send(replace(small, camera_matrix=matrix))
    wait_for(lambda: bench.answers("label_image", message))
    assert decode_labels(bench.answers("label_image", message)[0]).shape == (HEIGHT // 2, WIDTH // 2)


def test_depth_of_another_size_than_the_image_is_rejected(bench):
    bench.info()
    frame = bench.next_view()
    bench.send(replace(frame, depth=frame.depth[::2, ::2].copy()))
    refused(bench, "depth: the image is 80 x 60")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda m: setattr(m, "encoding", "32FC1"), "encoding '32FC1' is not a colour image"),
        (lambda m: setattr(m, "data", array("B", m.data[:-1])), "truncated"),
        (lambda m: setattr(m.header, "frame_id", ""), "no frame_id"),
        (lambda m: (setattr(m.header.stamp, "sec", 0), setattr(m.header.stamp, "nanosec", 0)), "stamp is zero"),
    ],
)
def test_images_that_cannot_be_used_are_rejected(bench, spoil, text):
    bench.info()
    frame, header = bench.next_view(), bench.header("camera")
    bench.broadcaster.send(frame.pose, "map", "camera", header.stamp)
    bench.depth.publish(encode_image(frame.depth, header))
    message = encode_image(frame.rgb, header)
    spoil(message)
    bench.image.publish(message)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, text))
    assert not bench.got["label_image"]
    bench.good_view_passes()


def test_a_model_that_raises_is_an_error_and_not_the_end(bench, parts, monkeypatch):
    bench.info()
    with monkeypatch.context() as broken:
        broken.setattr(parts, "look", lambda *_: (_ for _ in ()).throw(KeyError("burnt")))
        bench.send(bench.next_view())
        wait_for(lambda: bench.node.health.failed == 1)
        assert not bench.got["label_image"]
    bench.good_view_passes()


def test_a_camera_that_stands_still_gives_no_key_frames_until_time_is_up(start):
    bench = start(key_distance=0.1, key_angle=0.1, key_time=2.0)
    bench.good_view_passes()
    frame = bench.parts.view(around(bench.angle))
    for _ in range(3):
        bench.send(frame)
        wait_for(lambda: not bench.node._worker._slots)
    message = bench.send(frame, milliseconds=3000)
    wait_for(lambda: bench.answers("label_image", message))
    assert bench.node._taken == 2 and bench.node.health.no_result == 0
    bench.good_view_passes()  # it moved on


def test_key_frames_are_chosen_by_way_turning_and_time():
    p, keys, second = SegmentationParameters(), KeyFrames(), 10**9
    assert keys.wants(np.eye(4), 5 * second, p)
    keys.took(np.eye(4), 5 * second)
    step = se3.make(np.eye(3), [0, 0, 0.16])
    turn = se3.from_yaw_pitch_roll(0.21, 0, 0)
    near = se3.from_yaw_pitch_roll(0.1, 0, 0, [0.1, 0, 0])
    assert keys.wants(step, 6 * second, p) and keys.wants(turn, 6 * second, p)
    assert not keys.wants(near, 6 * second, p) and keys.wants(near, 10 * second, p)


def test_the_nearest_companion_is_found_and_old_ones_go():
    companions = Companions("depth", "depth_slop")
    for index in range(100):
        companions.put(Image(header=Bench(None, None, clock=index * 10**8).header("camera", 100)))
    assert companions.of(int(9.92e9), 0.05, 0.0).header.stamp.nanosec == 900_000_000
    with pytest.raises(RuntimeError, match="slop"):
        companions.of(10**9, 0.05, 0.0)


def test_points_of_a_lidar_serve_in_place_of_depth(start):
    bench = start(depth_source="points")
    bench.info()
    frame, header = bench.next_view(), bench.header("camera")
    seen = unproject(frame.depth, frame.camera_matrix)[::2, ::2].reshape(-1, 3)
    seen = seen[seen[:, 2] > 0]
    bench.broadcaster.send(frame.pose, "map", "camera", header.stamp)
    bench.broadcaster.send(frame.pose @ LIDAR_IN_CAMERA, "map", "lidar", header.stamp)
    points = se3.apply(se3.inverse(LIDAR_IN_CAMERA), seen)
    points[::50] = np.nan
    cloud_header = type(header)(stamp=header.stamp, frame_id="lidar")
    bench.points.publish(encode_points(points.astype(np.float32), cloud_header))
    message = encode_image(frame.rgb, header)
    bench.image.publish(message)
    wait_for(lambda: bench.answers("label_image", message))
    labels, truth = decode_labels(bench.answers("label_image", message)[0]), bench.parts.truth[bytes(message.data)]
    assert len({np.bincount(labels[(truth == number) & (labels > 0)]).argmax() for number in (1, 2, 3)}) == 3
    assert bench.diagnosis()["depth_source"] == "points"


def test_a_click_gives_the_object_at_that_point(bench):
    bench.good_view_passes()
    bench.click([0.0, 0.0, 0.3])  # the top of the first box
    wait_for(lambda: bench.got["prompted_points"])
    points = decode_points(bench.got["prompted_points"][0])[:, :3]
    assert bench.got["prompted_points"][0].header.frame_id == "map" and len(points) > 250
    assert (np.abs(points[:, :2]) < [0.22, 0.17]).all(axis=1).mean() > 0.95 and points[:, 2].max() > 0.28
    answer = bench.call("segment_clicked")
    assert answer.success and "by the image" in answer.message
    wait_for(lambda: len(bench.got["prompted_points"]) == 2)


def test_a_click_in_another_frame_is_moved_to_the_map(bench):
    bench.good_view_passes()
    pose = around(bench.angle)
    bench.click(se3.apply(se3.inverse(pose), np.array([0.0, 0.0, 0.3])), "camera")
    wait_for(lambda: bench.got["prompted_points"])
    points = decode_points(bench.got["prompted_points"][0])[:, :3]
    assert (np.abs(points[:, :2]) < [0.22, 0.17]).all(axis=1).mean() > 0.95 and points[:, 2].max() > 0.28


def test_clicks_beside_everything_or_not_finite_are_told(bench):
    bench.good_view_passes()
    bench.click([0.0, 0.0, 2.0])
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "the map has nothing within 0.1 m"))
    bench.click([np.nan, 0.0, 0.0])
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "is not finite"))
    assert not bench.got["prompted_points"]


def test_without_a_click_or_a_map_the_services_say_so(bench):
    answers = [bench.call(service) for service in ("segment_clicked", "save_map")]
    assert not any(answer.success for answer in answers)
    assert "nothing was clicked" in answers[0].message and "save_file is empty" in answers[1].message


def test_reset_forgets_the_map_and_ids_begin_anew(bench):
    bench.good_view_passes()
    held = len(bench.node.model)
    answer = bench.call("reset")
    assert answer.success and answer.message == f"a map of {held} voxels is forgotten"
    assert len(bench.node.model) == 0
    bench.good_view_passes()
    assert bench.node.model.ids.min() == 1


def test_a_source_that_starts_again_forgets_the_map(bench):
    bench.good_view_passes()
    bench.clock += 100 * 10**9
    bench.good_view_passes()
    bench.node.model._next_id = 500
    bench.clock -= 50 * 10**9
    bench.good_view_passes()
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, "jumped back"))
    assert bench.node.model.ids.max() < 500


def test_the_map_is_saved_as_a_cloud_that_others_read(start, tmp_path):
    path = tmp_path / "maps" / "room.ply"
    bench = start(save_file=str(path))
    bench.good_view_passes()
    answer = bench.call("save_map")
    assert answer.success and str(path) in answer.message
    head, body = path.read_bytes().split(b"end_header\n", 1)
    layout = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("label", "<i4"),
    ]
    rows = np.frombuffer(body, np.dtype(layout))
    assert f"element vertex {len(bench.node.model)}".encode() in head and b"property int label" in head
    np.testing.assert_array_equal(rows["label"], bench.node.model.ids)
    np.testing.assert_array_equal(rows["y"], bench.node.model.voxels.points[:, 1])


def test_every_key_of_the_parameter_file_is_a_parameter_with_that_default():
    declared = {ros_name(entry): entry.default for entry in fields(SegmentationParameters)}
    file = yaml.safe_load((ROOT / "config/segmentation.yaml").read_text())
    assert file["/**"]["ros__parameters"] == declared


def test_parameters_that_make_no_sense_are_refused(bench):
    result = bench.node.set_parameters_atomically(overrides(save_file="map.pcd"))
    assert not result.successful and "does not end in .ply" in result.reason
    assert SegmentationParameters(min_depth=4.0, max_depth=1.0).problems() == ["min_depth is not less than max_depth"]


def test_lifecycle_cycles_leave_nothing_behind(start, parts):
    bench = start()
    for _ in range(3):
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            getattr(bench.node, f"trigger_{transition}")()
    assert parts.closed == 3
    bench.wait_until_connected()
    bench.good_view_passes()
    names = bench.client.get_node_names()
    assert names.count("segmentation_node_services") == 1 and names.count("segmentation_node_tf") == 1
