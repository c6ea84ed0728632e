# SPDX-License-Identifier: Apache-2.0
"""Replays start the genuine node as a process; its detector is a fake that finds one car."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from bag_support import STAMP, make_bag, make_scan

os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("vision_msgs", reason="vision_msgs is not generated")

from perception_nodes import cli
from perception_nodes import replay as replay_module
from perception_nodes.replay import ReplayError, replay
from perception_nodes.scans import ScanBag


@pytest.fixture(autouse=True)
def fake_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(replay_module, "MODULE", "fake_detection_node")


def test_in_lock_step_every_cloud_is_answered_once_in_order(tmp_path: Path) -> None:
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(12)])
    measured = replay(source, tmp_path / "out.mcap")
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
    measured = replay(source, tmp_path / "out.mcap", timeout=10)
    assert measured.sent == 15 and measured.dropped == 0


def test_a_cloud_that_the_node_must_reject_does_not_stop_the_replay(tmp_path: Path) -> None:
    empty = dataclasses.replace(make_scan(1), points=np.zeros((0, 4), np.float32), rings=None, times=None)
    source = make_bag(tmp_path / "a.mcap", [make_scan(0), empty, make_scan(2)])
    measured = replay(source, tmp_path / "out.mcap")
    assert measured.sent == 3 and measured.dropped == 1


def test_in_real_time_a_slow_node_drops_clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE_SECONDS", "0.5")
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(16)])
    measured = replay(source, tmp_path / "out.mcap", rate=1.0)
    assert measured.sent == 16 and 1 <= len(measured.latencies) < 16
    assert min(measured.latencies.values()) >= 500


def test_a_node_that_does_not_start_or_dies_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(5)])
    monkeypatch.setenv("FAKE_NODE_DIES", "1")
    with pytest.raises(ReplayError, match="ended"):
        replay(source, tmp_path / "out.mcap")
    monkeypatch.setenv("FAKE_NODE_FAILS", "1")
    with pytest.raises(ReplayError, match="no weights, says the fake node"):
        replay(source, tmp_path / "out.mcap")
    assert not (tmp_path / "out.mcap").exists()


def test_a_node_that_is_too_slow_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE_SECONDS", "3")
    source = make_bag(tmp_path / "a.mcap", [make_scan(0)])
    with pytest.raises(ReplayError, match="no answer to the cloud"):
        replay(source, tmp_path / "out.mcap", timeout=0.5)


def test_the_command_judges_what_the_node_answered(tmp_path: Path) -> None:
    source = make_bag(tmp_path / "a.mcap", [make_scan(i) for i in range(6)])
    assert cli.main(["replay", str(source), "--out", str(tmp_path / "out")]) == 0
    figures = json.loads((tmp_path / "out/metrics.json").read_text())["detection"]
    assert figures["vehicle_ap_3d_70"] == 100 and figures["clouds_without_answer"] == 0
    assert "data:image/png;base64," in (tmp_path / "out/report.html").read_text()
