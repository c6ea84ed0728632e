# SPDX-License-Identifier: Apache-2.0
"""Bags give back what was written, in messages that genuine ROS 2 reads byte for byte."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from bag_support import FORWARD, STAMP, make_bag, make_scan

from perception_nodes import bag_messages as messages
from perception_nodes import bags
from perception_nodes.bag_messages import Objects
from perception_nodes.bag_types import bag_types
from perception_nodes.bags import BadBag, BagReader, BagWriter
from perception_nodes.scans import ScanBag, write_scan


def test_scans_survive_the_round_trip(tmp_path: Path) -> None:
    ignored = np.array([[10.0, 20, 30, 50]])
    written = [dataclasses.replace(make_scan(i, ("vehicle", "cyclist")), ignored=ignored) for i in range(3)]
    with ScanBag(make_bag(tmp_path / "a.mcap", written, FORWARD)) as bag:
        read = list(bag)
        assert len(bag) == 3
    for before, after in zip(written, read, strict=True):
        assert after.stamp == before.stamp and after.objects.names == before.objects.names
        assert after.objects.ids == before.objects.ids
        np.testing.assert_array_equal(after.points, before.points)
        np.testing.assert_allclose(after.objects.boxes, before.objects.boxes, atol=1e-6)
        np.testing.assert_allclose(after.ignored, ignored)


def test_what_a_data_set_calls_an_object_is_kept_beside_its_class(tmp_path: Path) -> None:
    scan = make_scan(0, ("vehicle", "cyclist"))
    named = dataclasses.replace(scan, objects=scan.objects._replace(kinds=("Van", "Cyclist")))
    with ScanBag(make_bag(tmp_path / "a.mcap", [named])) as bag:
        [read] = bag
    assert read.objects.names == ["vehicle", "cyclist"] and read.objects.kinds == ("Van", "Cyclist")
    with ScanBag(make_bag(tmp_path / "b.mcap", [scan])) as bag:
        assert next(iter(bag)).objects.kinds == ()


def test_where_the_sensor_was_is_told_where_the_bag_knows_it(tmp_path: Path) -> None:
    scans = [make_scan(i) for i in range(3)]  # base_link is the sensor; it moves by 1 m a scan
    with ScanBag(make_bag(tmp_path / "a.mcap", scans)) as bag:
        assert [bag.pose_of(scan.stamp)[0, 3] for scan in scans] == pytest.approx([0, 1, 2])
    silent = [dataclasses.replace(scan, pose=None) for scan in scans]
    with ScanBag(make_bag(tmp_path / "b.mcap", silent)) as bag:
        assert bag.pose_of(scans[0].stamp) is None


def test_clouds_carry_ring_and_time(tmp_path: Path) -> None:
    scan = make_scan(0)
    cloud = messages.encode_cloud(scan.points, messages.header(STAMP, "lidar"), scan.rings, scan.times)
    layout = {f.name: (f.offset, f.datatype) for f in cloud.fields}
    assert layout == {"x": (0, 7), "y": (4, 7), "z": (8, 7), "intensity": (12, 7), "ring": (16, 4), "time": (20, 7)}
    table = cloud.data.reshape(len(scan.points), cloud.point_step)
    np.testing.assert_array_equal(table[:, 16:18].copy().view(np.uint16)[:, 0], scan.rings)
    np.testing.assert_array_equal(table[:, 20:24].copy().view(np.float32)[:, 0], scan.times)


def test_coverage_is_the_cameras_view_less_the_ignored_rectangles(tmp_path: Path) -> None:
    with ScanBag(make_bag(tmp_path / "a.mcap", [make_scan(0)], FORWARD)) as bag:
        coverage = bag.coverage()
    places = np.array([[10.0, 0, 0], [10, 9, 0], [10, 11, 0], [-10, 0, 0], [10, 0, 6]])
    assert coverage.covers(places, np.zeros((0, 4))).tolist() == [True, True, False, False, False]
    # 9 m to the left at 10 m is pixel (10, 50).
    assert coverage.covers(places, np.array([[5.0, 45, 15, 55]])).tolist()[:2] == [True, False]
    with ScanBag(make_bag(tmp_path / "b.mcap", [make_scan(0)])) as bag:
        assert bag.coverage() is None


@pytest.mark.parametrize("name", ["Detection3DArray", "Detection2DArray"])
def test_detections_are_the_bytes_and_the_type_of_genuine_ros(name: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    genuine = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not generated")
    head = messages.header(STAMP + 5, "lidar")
    boxes = np.array([[1, 2, 3, 4, 2, 1.5, 0.3], [4, 5, 6, 1, 1, 2, -3]], np.float32)
    objects = Objects(boxes, ["vehicle", "pedestrian"], ["1", "22"], np.array([0.5, 1], np.float32))
    ours = {
        "Detection3DArray": messages.encode_objects(objects, head),
        "Detection2DArray": messages.encode_rectangles(np.array([[1.0, 2, 30, 40]]), head),
    }[name]
    data = bytes(bag_types().serialize_cdr(ours, ours.__msgtype__))
    understood = serialization.deserialize_message(data, getattr(genuine, name))
    assert understood.header.frame_id == "lidar" and len(understood.detections) == len(ours.detections)
    assert understood.detections[-1].results[0].hypothesis.class_id in ("pedestrian", "ignore")
    theirs = serialization.serialize_message(understood)
    # Padding bytes are arbitrary in the genuine serialization: read and written once more they are zero.
    again = bag_types().deserialize_cdr(theirs, ours.__msgtype__)
    assert len(theirs) == len(data) and bytes(bag_types().serialize_cdr(again, ours.__msgtype__)) == data


def test_a_bag_that_breaks_off_leaves_no_file_and_the_former_one_in_place(tmp_path: Path) -> None:
    path = make_bag(tmp_path / "a.mcap", [make_scan(0)])
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="broken off"), BagWriter(path) as bag:
        write_scan(bag, make_scan(1))
        raise RuntimeError("broken off")
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.mcap"]


def test_clouds_that_no_node_takes_are_left_out_and_named(tmp_path: Path) -> None:
    nan = dataclasses.replace(make_scan(1), points=np.full((5, 4), np.nan, np.float32), rings=None, times=None)
    with ScanBag(make_bag(tmp_path / "a.mcap", [make_scan(0), nan, make_scan(2)])) as bag:
        assert [scan.stamp for scan in bag] == [STAMP, STAMP + 2 * 10**8]
        assert len(bag.rejected) == 1 and "finite" in bag.rejected[0]


def test_wrong_bags_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(BadBag, match="not a bag"):
        BagReader(tmp_path / "nothing.mcap")
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"no bag")
    with pytest.raises(BadBag, match="broken"), BagReader(broken):
        pass
    with pytest.raises(ValueError, match=r"out\.mcap"):
        BagWriter(tmp_path / "out.bag")
    path = make_bag(tmp_path / "a.mcap", [make_scan(0)])
    with pytest.raises(BadBag, match="its clouds are: /points"), ScanBag(path, "/lidar/points"):
        pass


def test_truth_in_another_frame_is_refused(tmp_path: Path) -> None:
    scan = make_scan(0)
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write(bags.POINTS, messages.encode_cloud(scan.points, messages.header(STAMP, "lidar")), STAMP)
        bag.write(bags.TRUTH_DETECTIONS, messages.encode_objects(scan.objects, messages.header(STAMP, "map")), STAMP)
    with pytest.raises(BadBag, match="frame 'map'"), ScanBag(tmp_path / "a.mcap") as read:
        list(read)
