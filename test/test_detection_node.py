# SPDX-License-Identifier: Apache-2.0
"""The detection node over real DDS: good scans come back as boxes, bad ones as warnings, and it outlives both."""

from __future__ import annotations

from array import array
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from node_support import BOXES, FakeDetector, context, launch, random_points, wait_for  # noqa: F401
from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointField
from visualization_msgs.msg import Marker

from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_nodes.detection_node import DetectionNode
from perception_nodes.messages import decode_detections, encode_points
from perception_nodes.transforms import Broadcaster


@pytest.fixture
def detector():
    return FakeDetector()


@pytest.fixture
def bench(launch, detector):  # noqa: F811
    return launch(partial(DetectionNode, lambda parameters: detector))


def rejected(bench, cloud, text):
    """Sends a cloud that must be refused with a warning that has this text, and nothing published."""
    before = len(bench.got["detections"])
    bench.send(cloud)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.WARN, text))
    assert len(bench.got["detections"]) == before
    bench.good_cloud_passes()


def test_a_scan_comes_back_as_its_detections_with_its_header(bench, detector):
    cloud = bench.cloud()
    bench.send(cloud)
    wait_for(lambda: bench.got["detections"])
    message = bench.got["detections"][0]
    assert message.header == cloud.header
    assert all(detection.header == cloud.header for detection in message.detections)
    found = decode_detections(message)
    np.testing.assert_allclose(found.boxes, BOXES, atol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-6)
    assert [found.names[label] for label in found.labels] == ["vehicle", "pedestrian"]
    np.testing.assert_array_equal(detector.seen[0], random_points())


def test_markers_start_with_delete_all_and_carry_the_scan_s_header(bench):
    cloud = bench.cloud()
    bench.send(cloud)
    wait_for(lambda: bench.got["markers"])
    markers = bench.got["markers"][0].markers
    assert markers[0].action == Marker.DELETEALL
    assert all(marker.header == cloud.header for marker in markers)


def test_markers_can_be_switched_off_while_running(bench):
    bench.set(publish_markers=False)
    bench.good_cloud_passes()
    assert not bench.got["markers"]


def test_thresholds_reach_the_detector_in_the_order_of_its_classes(bench, detector):
    bench.set(score_threshold__pedestrian=0.7, nms_iou=0.4)
    bench.good_cloud_passes()
    assert detector.thresholds.score == (0.5, 0.7, 0.5)
    assert detector.thresholds.nms_iou == 0.4


def test_an_empty_cloud_is_rejected(bench):
    rejected(bench, bench.cloud(count=0), "empty")


def test_a_cloud_without_a_finite_point_is_rejected(bench):
    cloud = encode_points(np.full((50, 4), np.nan, np.float32), bench.header())
    rejected(bench, cloud, "none of the 50 points")


def test_some_points_that_are_not_finite_are_left_to_the_detector(bench, detector):
    points = random_points()
    points[::2, 0] = np.nan
    bench.send(encode_points(points, bench.header()))
    wait_for(lambda: bench.got["detections"])
    np.testing.assert_array_equal(detector.seen[0], points)


def test_missing_fields_are_rejected(bench):
    cloud = bench.cloud()
    cloud.fields = [field for field in cloud.fields if field.name != "z"]
    rejected(bench, cloud, "no field 'z' (it has: x, y, intensity)")


def test_a_wrong_datatype_is_rejected(bench):
    cloud = bench.cloud()
    cloud.fields[0].datatype = PointField.INT32
    rejected(bench, cloud, "field 'x' has datatype 5")


def test_big_endian_clouds_with_padded_rows_reach_the_detector_whole(bench, detector):
    points = random_points(100)
    cloud = encode_points(points, bench.header())
    rows = points.astype(">f4").view(np.uint8).reshape(4, -1)
    cloud.data = array("B", np.pad(rows, ((0, 0), (0, 12))).tobytes())
    cloud.height, cloud.width, cloud.row_step, cloud.is_bigendian = 4, 25, 412, True
    bench.send(cloud)
    wait_for(lambda: bench.got["detections"])
    np.testing.assert_array_equal(detector.seen[0], points)


def test_truncated_data_is_rejected(bench):
    cloud = bench.cloud()
    cloud.data = cloud.data[:-7]
    rejected(bench, cloud, "truncated")


def test_a_missing_frame_is_rejected(bench):
    rejected(bench, bench.cloud(frame=""), "no frame_id")


def test_a_zero_stamp_is_rejected(bench):
    cloud = bench.cloud()
    cloud.header.stamp.sec = cloud.header.stamp.nanosec = 0
    rejected(bench, cloud, "stamp is zero")


@pytest.mark.parametrize(("milliseconds", "text"), [(0, "repeats the last one"), (-400, "0.400 s before")])
def test_stamps_that_do_not_advance_are_rejected(bench, milliseconds, text):
    bench.good_cloud_passes()
    cloud = bench.cloud(milliseconds=milliseconds)
    bench.clock += abs(milliseconds) * 1_000_000
    rejected(bench, cloud, text)


def test_a_source_that_starts_again_is_served_with_a_warning(bench):
    bench.clock += 100 * 10**9
    bench.good_cloud_passes()
    bench.clock -= 90 * 10**9
    bench.good_cloud_passes()
    assert bench.node.health.warnings == 1
    assert "jumped back" in bench.node.health.last_error


def test_old_scans_are_rejected_only_when_asked_for(bench):
    bench.good_cloud_passes()  # decades old: its stamp is one second after 1970
    bench.set(max_age=1.0)
    count = bench.node.health.rejected
    bench.send(bench.cloud())
    wait_for(lambda: bench.node.health.rejected == count + 1)
    assert "max_age is 1.0 s" in bench.node.health.last_error


@pytest.mark.parametrize(("wanted", "expected"), [(False, "BEST_EFFORT"), (True, "RELIABLE")])
def test_sensor_topics_are_best_effort_unless_asked_for_reliably(launch, detector, wanted, expected):  # noqa: F811
    bench = launch(partial(DetectionNode, lambda parameters: detector), reliable_input=wanted)
    [info] = bench.client.get_subscriptions_info_by_topic("/detection_node/points")
    assert info.qos_profile.reliability.name == expected
    bench.good_cloud_passes()


def test_a_burst_costs_drops_and_ends_with_the_newest_scan(bench, detector):
    bench.good_cloud_passes()
    detector.seconds = 0.1
    clouds = [bench.cloud() for _ in range(20)]
    for cloud in clouds:
        bench.send(cloud)
    wait_for(lambda: bench.got["detections"][-1].header.stamp == clouds[-1].header.stamp)
    values = bench.diagnosis()
    assert int(values["dropped"]) > 0
    assert int(values["dropped"]) + int(values["processed"]) == int(values["received"])


def test_a_detector_that_raises_is_an_error_and_not_the_end(bench, detector):
    detector.error = RuntimeError("the engine burnt")
    bench.send(bench.cloud())
    wait_for(lambda: bench.node.health.failed == 1)
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.ERROR, "the engine burnt"))
    assert not bench.got["detections"]
    detector.error = None
    bench.good_cloud_passes()


def test_boxes_that_are_not_finite_are_never_published(bench, detector, monkeypatch):
    whole = detector.detect

    def detect(points):
        return replace(whole(points), boxes=np.full_like(BOXES, np.nan))

    with monkeypatch.context() as patch:
        patch.setattr(detector, "detect", detect)
        bench.send(bench.cloud())
        wait_for(lambda: bench.node.health.failed == 1)
    assert not bench.got["detections"]
    bench.good_cloud_passes()


def test_pillars_over_capacity_are_reported_and_the_result_still_published(bench, detector):
    detector.overflow = 12
    bench.good_cloud_passes()
    assert "12 pillars exceed" in bench.node.health.last_error
    assert bench.node.health.warnings == 1


def test_without_the_transform_nothing_is_published_and_with_it_boxes_are_moved(launch, detector):  # noqa: F811
    bench = launch(partial(DetectionNode, lambda parameters: detector), target_frame="base_link", tf_timeout=0.2)
    bench.send(bench.cloud())
    wait_for(lambda: bench.node.health.no_result == 1)
    assert "does not exist" in bench.node.health.last_error
    assert not bench.got["detections"]

    pose = se3.from_yaw_pitch_roll(0.7, 0.0, 0.0, [1.0, 2.0, 1.5])
    broadcaster = Broadcaster(bench.client, is_static=True)
    broadcaster.send(pose, "base_link", "lidar", bench.stamp())
    cloud = bench.cloud()
    bench.send(cloud)
    wait_for(lambda: bench.got["detections"])
    message = bench.got["detections"][0]
    assert message.header.frame_id == "base_link"
    assert message.header.stamp == cloud.header.stamp
    np.testing.assert_allclose(decode_detections(message).boxes, transform_boxes(BOXES, pose), atol=1e-5)


def test_with_a_stale_transform_nothing_is_published(launch, detector):  # noqa: F811
    bench = launch(partial(DetectionNode, lambda parameters: detector), target_frame="odom", tf_timeout=5.0)
    broadcaster = Broadcaster(bench.client)
    for _ in range(2):
        broadcaster.send(np.eye(4), "odom", "lidar", bench.stamp())
    between = encode_points(random_points(), bench.header(milliseconds=-50))
    bench.send(between)
    wait_for(lambda: bench.got["detections"])
    bench.send(bench.cloud(milliseconds=500))
    wait_for(lambda: bench.node.health.no_result == 1)
    assert "extrapolation into the future" in bench.node.health.last_error
    assert [message.header.stamp for message in bench.got["detections"]] == [between.header.stamp]


def test_a_source_that_falls_silent_is_stale_until_it_speaks_again(launch, detector):  # noqa: F811
    bench = launch(partial(DetectionNode, lambda parameters: detector), silence=0.5)
    bench.good_cloud_passes()
    wait_for(lambda: bench.was_diagnosed(DiagnosticStatus.STALE, "no input on /detection_node/points"))
    bench.good_cloud_passes()


def test_a_stream_of_bad_scans_is_one_warning_and_many_counts(bench):
    logs = []
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    bench.client.create_subscription(Log, "/rosout", logs.append, latched)
    for _ in range(8):
        count = bench.node.health.rejected
        bench.send(bench.cloud(count=0))
        wait_for(lambda: bench.node.health.rejected > count)  # noqa: B023
    bench.good_cloud_passes()
    wait_for(lambda: logs)
    warnings = [log.msg for log in logs if log.level == 30]
    assert warnings == ["a message on ~/points was rejected: the cloud is empty; check the sensor"]
    assert bench.node.health.rejected == 8


def test_timing_names_every_stage(bench):
    bench.good_cloud_passes()
    wait_for(lambda: bench.got["timing"] and bench.got["timing"][-1].status)
    stages = {status.name: {v.key: float(v.value) for v in status.values} for status in bench.got["timing"][-1].status}
    assert {"convert", "preprocess", "inference", "postprocess", "publish", "total"} <= set(stages)
    assert stages["inference"] == {"p50_ms": 2.0, "p95_ms": 2.0, "p99_ms": 2.0, "samples": 1.0}
