# SPDX-License-Identifier: Apache-2.0
"""Tracking judged on a simulated bag, in process and through the node; the tracker is the baseline on clusters."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("vision_msgs", reason="vision_msgs is not generated")

from fake_tracking_node import Clusters

from perception_models.evaluation import occlusion, one_pass
from perception_nodes import cli
from perception_nodes.bag_messages import Objects
from perception_nodes.bags import BagWriter
from perception_nodes.commands import benchmark_tracking
from perception_nodes.commands.simulate import EPOCH
from perception_nodes.judges.tracking import LabelledBag, Task
from perception_nodes.judges.tracking_latency import fill, resized
from perception_nodes.judges.tracking_methods import Recording, true_velocity
from perception_nodes.node_process import TRANSPORT
from perception_nodes.played import PLAYED, TRACKING
from perception_nodes.scans import Scan, ScanBag, write_rig, write_scan

CAR, PERSON = np.array([12.0, 4, -0.95, 4.2, 1.8, 1.5, 0]), np.array([8.0, -4, -0.85, 0.6, 0.6, 1.7, 0])
GROUND = -1.7


def scan(index: int, seen: tuple[str, ...] = ("1", "2")) -> Scan:
    """A car that drives ahead at 5 m/s and a person that stands, on flat ground; the sensor moves at 2 m/s."""
    rng = np.random.default_rng(index)
    shift = np.array([0.2 * index, 0, 0, 0, 0, 0, 0])
    boxes = {"1": CAR + [0.5 * index, 0, 0, 0, 0, 0, 0] - shift, "2": PERSON - shift}
    shells = [box[:3] + rng.uniform(-0.5, 0.5, (400, 3)) * box[3:6] for name, box in boxes.items() if name in seen]
    flat = np.column_stack([rng.uniform(-25, 25, (9000, 2)), np.full(9000, GROUND)])
    points = np.column_stack([np.vstack([*shells, flat]), np.zeros(9000 + 400 * len(shells))]).astype(np.float32)
    objects = Objects(
        np.array(list(boxes.values()), np.float32),
        ["vehicle", "pedestrian"],
        list(boxes),
        np.ones(2, np.float32),
        ("Van", "Pedestrian"),
    )
    pose = np.eye(4)
    pose[0, 3] = shift[0]
    return Scan(EPOCH + index * 10**8, points, objects, pose)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tracking") / "drive.mcap"
    with BagWriter(path) as writer:
        write_rig(writer, EPOCH, np.eye(4))
        for index in range(20):
            write_scan(writer, scan(index))
    return path


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perception_models.tracking.MultiTracker.load", lambda **_: Clusters())


@pytest.mark.usefixtures("clusters")
def test_evaluate_follows_every_object_of_a_bag_and_keeps_vans_apart(bag: Path, tmp_path: Path) -> None:
    assert cli.main(["evaluate", str(bag), "--tasks", "tracking", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "metrics.json").read_text())["tracking"]
    assert figures["tracks"] == 2 and figures["van_scans"] == figures["pedestrian_scans"] == 20
    assert figures["van_precision"] > 80 and figures["pedestrian_success"] > 60 and figures["wrong_object"] == 0
    assert figures["latency_inference_p95_ms"] == 1.0
    assert "Targets" in (tmp_path / "report.html").read_text()


def test_a_replay_s_tracks_are_judged_as_those_in_process(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clusters: None
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", TRANSPORT)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setitem(PLAYED, "tracking", dataclasses.replace(TRACKING, module="fake_tracking_node"))
    assert cli.main(["replay", str(bag), "--tasks", "tracking", "--out", str(tmp_path / "a")]) == 0
    assert cli.main(["evaluate", str(bag), "--tasks", "tracking", "--out", str(tmp_path / "b")]) == 0
    node, here = (json.loads((tmp_path / x / "metrics.json").read_text())["tracking"] for x in "ab")
    assert node["messages_without_answer"] == 0 and node["tracks"] == 2
    for figure in ("van_success", "van_precision", "pedestrian_success"):
        assert node[figure] == pytest.approx(here[figure], abs=6)


def test_objects_of_no_class_are_not_followed(bag: Path) -> None:
    with ScanBag(bag) as opened:
        scans = list(LabelledBag(opened))
    unknown = [dataclasses.replace(s, categories={"1": "", "2": "Pedestrian"}) for s in scans]
    assert [target.identity for target in Task.of(unknown).targets] == ["2"]
    nobody = [dataclasses.replace(s, boxes={}) for s in scans]
    with pytest.raises(ValueError, match="nothing to judge"):
        Task.of(nobody)


def labelled(count: int) -> list[one_pass.LabelledScan]:
    found = []
    for index in range(count):
        one = scan(index)
        boxes = dict(zip(one.objects.ids, one.objects.boxes, strict=True))
        found.append(one_pass.LabelledScan(0.1 * index, one.points, boxes, one.pose, {"1": "Van", "2": "Pedestrian"}))
    return found


def test_an_object_is_hidden_for_a_second_and_shown_again() -> None:
    scans = labelled(31)
    targets, counts = one_pass.find_targets(scans)
    trials = occlusion.make_trials(scans, targets, counts)
    assert [(trial.target.identity, trial.hide, trial.show) for trial in trials] == [("1", 10, 20), ("2", 10, 20)]
    _, hidden = one_pass.find_targets(trials[0].scans)
    assert [count == 0 for count in hidden["1"].values()] == [10 <= index < 20 for index in range(31)]
    assert min(hidden["2"].values()) > 100  # the other one is seen all the time
    figures = occlusion.run_trials(Clusters(), trials)
    assert figures == {"trials": 2, "right": 100, "wrong": 0, "none": 0, "wrong_ever": 0, "told": 100}


def test_the_velocity_that_is_given_away_is_the_true_one() -> None:
    recording = Recording.of("test", labelled(12), "bag")
    velocities = {one.identity: true_velocity(recording.scans, one) for one in recording.task.targets}
    np.testing.assert_allclose(velocities["1"], [5, 0, 0], atol=1e-4)
    np.testing.assert_allclose(velocities["2"], [0, 0, 0], atol=1e-4)


def test_scans_are_brought_to_full_size_and_the_best_seen_are_followed() -> None:
    assert resized(labelled(1)[0].points).shape == (120_000, 4)
    tracker, first = Clusters(), labelled(1)[0]
    fill(tracker, first, 1)
    assert len(tracker.targets) == 1
    fill(tracker, dataclasses.replace(first, boxes={"2": first.boxes["2"]}), 1)
    assert tracker.targets == ("2",)
    with pytest.raises(ValueError, match="a scan shows 2 objects, 3 are to be followed"):
        fill(tracker, first, 3)


def test_the_benchmark_puts_all_methods_into_one_table(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    benchmark_tracking.configure(parser)
    methods = ["clusters + Kalman filter", "constant velocity", "stands still"]
    words = ["--bag", str(bag), "--ego", "bag", "--out", str(tmp_path), "--methods", *methods]
    assert benchmark_tracking.run(parser.parse_args(words)) == 0
    shown = capsys.readouterr().out
    assert all(method in shown for method in methods) and "Van (1)" in shown
    figures = json.loads((tmp_path / "metrics.json").read_text())
    coasting, standing = (figures[f"drive: {method}"] for method in methods[1:])
    assert coasting["success"] > 99 and standing["pedestrian_success"] > 99  # nothing accelerates here
    assert standing["van_success"] < 60
