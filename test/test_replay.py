# SPDX-License-Identifier: Apache-2.0
"""Replays start the genuine node as a process; its detector is a fake that finds one car."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from bag_support import STAMP, make_bag, make_scan
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("vision_msgs", reason="vision_msgs is not generated")

from perception_nodes import cli
from perception_nodes.bag_messages import decode_objects
from perception_nodes.bags import DETECTIONS, BadBag, BagReader
from perception_nodes.node_process import TRANSPORT
from perception_nodes.played import DETECTION, PLAYED
from perception_nodes.replay import replay
from perception_nodes.replay_client import ReplayError
from perception_nodes.scans import ScanBag

FAKE = dataclasses.replace(DETECTION, module="fake_detection_node")


@pytest.fixture(autouse=True)
def fake_node(monkeypatch: pytest.MonkeyPatch) -> None:
    # A replay sets these two for its whole process; set here, they are given back to the tests that follow.
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", TRANSPORT)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setitem(PLAYED, "detection", FAKE)


def test_in_lock_step_every_cloud_is_answered_once_in_order(tmp_path: Path) -> None:
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(12)])
    measured = replay(source, tmp_path / "out.mcap", FAKE)
    stamps = [STAMP + i * 10**8 for i in range(12)]
    assert measured.sent == 12 and measured.dropped == 0 and list(measured.latencies) == stamps
    assert min(measured.latencies.values()) > 0 and measured.node_memory > 10
    with ScanBag(tmp_path / "out.mcap") as bag:
        answers = bag.recorded()
        scans = list(bag)
    assert list(answers) == stamps and len(scans) == 12
    for scan in scans:
        assert scan.objects is not None
        np.testing.assert_allclose(answers[scan.stamp].boxes[0, :3], scan.objects.boxes[0, :3], atol=1e-5)


def test_clouds_of_full_size_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    source = make_bag(tmp_path / "a.mcap", [make_scan(i, count=120_000) for i in range(15)])
    measured = replay(source, tmp_path / "out.mcap", FAKE, timeout=30)
    assert measured.sent == 15 and measured.dropped == 0


def test_a_cloud_that_the_node_must_reject_does_not_stop_the_replay(tmp_path: Path) -> None:
    empty = dataclasses.replace(make_scan(1), points=np.zeros((0, 4), np.float32), rings=None, times=None)
    source = make_bag(tmp_path / "a.mcap", [make_scan(0), empty, make_scan(2)])
    measured = replay(source, tmp_path / "out.mcap", FAKE)
    assert measured.sent == 3 and measured.dropped == 1
    assert "the cloud is empty" in measured.complaint


def test_the_node_s_own_times_are_measured(tmp_path: Path) -> None:
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(3)])
    stages = replay(source, tmp_path / "out.mcap", FAKE).stages
    assert {"convert", "inference", "publish", "total"} <= set(stages)
    assert stages["publish"]["samples"] == 3 and 0 < stages["publish"]["p50_ms"] <= stages["publish"]["p99_ms"]


def test_answers_in_another_frame_by_the_bag_s_transforms_are_judged_in_the_cloud_s(tmp_path: Path) -> None:
    scans = [make_scan(i) for i in range(5)]  # the vehicle drives: odom is another place at each scan
    source = make_bag(tmp_path / "a.mcap", scans)
    measured = replay(source, tmp_path / "out.mcap", FAKE, parameters={"target_frame": "odom", "tf_timeout": 2.0})
    assert measured.dropped == 0
    with BagReader(tmp_path / "out.mcap") as reader:
        answers = [message for _, _, message in reader.messages([DETECTIONS])]
    assert [message.header.frame_id for message in answers] == ["odom"] * 5
    for index, message in enumerate(answers):
        assert decode_objects(message).boxes[0, 0] == pytest.approx(scans[index].points[0, 0] + index, abs=1e-4)
    with ScanBag(tmp_path / "out.mcap") as bag:
        recorded = bag.recorded()
    for scan in scans:
        np.testing.assert_allclose(recorded[scan.stamp].boxes[0, :3], scan.points[0, :3], atol=1e-4)


def test_clouds_that_no_transform_covers_stay_without_answer_and_the_replay_goes_on(tmp_path: Path) -> None:
    scans = [dataclasses.replace(make_scan(i), pose=None if i == 0 else np.eye(4)) for i in range(3)]
    source = make_bag(tmp_path / "a.mcap", scans)
    measured = replay(source, tmp_path / "out.mcap", FAKE, parameters={"target_frame": "odom", "tf_timeout": 0.5})
    assert list(measured.latencies) == [scan.stamp for scan in scans[1:]]
    assert "extrapolation into the past" in measured.complaint


def test_a_ros_1_bag_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    source = tmp_path / "old.bag"
    with Writer(source) as writer:
        store = get_typestore(Stores.ROS1_NOETIC)
        cloud = store.types["std_msgs/msg/String"]("x")
        connection = writer.add_connection("/chatter", cloud.__msgtype__, typestore=store)
        writer.write(connection, 1, store.serialize_ros1(cloud, cloud.__msgtype__))
    with pytest.raises(BadBag, match="is a ROS 1 bag; convert it: rosbags-convert --src .*old.bag --dst .*old"):
        replay(source, tmp_path / "out.mcap", FAKE)


def test_in_real_time_a_slow_node_drops_clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE_SECONDS", "0.5")
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(16)])
    measured = replay(source, tmp_path / "out.mcap", FAKE, rate=1.0)
    assert measured.sent == 16 and 1 <= len(measured.latencies) < 16
    assert min(measured.latencies.values()) >= 500


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FAKE_NODE_EXITS", "no weights, says the fake node"),
        ("FAKE_NODE_CANNOT_LOAD", "configure failed: the weights are torn, says the fake node"),
        ("FAKE_NODE_RAISES", "processing failed: .*the engine burnt, says the fake node"),
        ("FAKE_NODE_DIES", "ended"),
    ],
)
def test_a_node_that_fails_ends_the_replay_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(5)])
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ReplayError, match=text):
        replay(source, tmp_path / "out.mcap", FAKE, timeout=60)
    assert not (tmp_path / "out.mcap").exists()


def test_a_node_that_is_too_slow_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE_SECONDS", "3")
    source = make_bag(tmp_path / "a.mcap", [make_scan(0)])
    with pytest.raises(ReplayError, match="no answer to the message"):
        replay(source, tmp_path / "out.mcap", FAKE, timeout=0.5)


def test_the_command_judges_what_the_node_answered(tmp_path: Path) -> None:
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(6)])
    assert cli.main(["replay", str(source), "--out", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out/metrics.json").read_text())["detection"]
    assert figures["vehicle_ap_3d_70"] == 100 and figures["messages_without_answer"] == 0
    assert "data:image/png;base64," in (tmp_path / "out/report.html").read_text()
