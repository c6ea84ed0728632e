# SPDX-License-Identifier: Apache-2.0
"""Reconstruction judged on a bag, in process and through the node, with a network that knows the truth."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("vision_msgs", reason="vision_msgs is not generated")

from fake_reconstruction_node import IMAGES, knowing
from reconstruction_support import OWN, frame, walk

from perception_models.reconstruction import Reconstructor
from perception_nodes import cli
from perception_nodes.bags import BagWriter
from perception_nodes.judges import reconstruction
from perception_nodes.node_process import TRANSPORT
from perception_nodes.played import PLAYED, RECONSTRUCTION
from perception_nodes.rgbd_bag import write_rgbd, write_rgbd_rig

STAMP = 1_700_000_000 * 10**9


def write_bag(path: Path, with_poses: bool = True) -> Path:
    with BagWriter(path) as bag:
        write_rgbd_rig(bag, STAMP)
        for number, pose in enumerate(walk(IMAGES)):
            seen = frame(pose)
            write_rgbd(bag, STAMP + number * 10**8, seen, pose if with_poses else None)
    return path


@pytest.fixture(autouse=True)
def true_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction.EngineNetwork, "load", lambda *_: knowing())
    monkeypatch.setattr(reconstruction, "Reconstructor", functools.partial(Reconstructor, settings=OWN))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", TRANSPORT)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    fake = dataclasses.replace(RECONSTRUCTION, module="fake_reconstruction_node")
    monkeypatch.setitem(PLAYED, "reconstruction", fake)


def judged(command: str, bag: Path, out: Path, *more: str) -> dict[str, float]:
    assert cli.main([command, str(bag), "--tasks", "reconstruction", "--out", str(out), *more]) == 0
    return json.loads((out / "metrics.json").read_text())["reconstruction"]


def test_what_the_truth_says_of_itself_is_without_error(tmp_path: Path) -> None:
    figures = judged("evaluate", write_bag(tmp_path / "ball.mcap"), tmp_path / "a")
    assert figures["images"] == IMAGES and figures["valid"] == figures["worlds"] == 1
    assert figures["abs_rel_metric"] < 1e-3 and figures["delta_metric"] == 1
    assert figures["ate_metric_percent"] < 0.1 and figures["rpe_deg"] < 0.1
    assert figures["latency_inference_p95_ms"] > 0
    assert "Depth and poses" in (tmp_path / "a/report.html").read_text()


def test_a_replay_s_poses_are_judged_as_those_in_process(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "ball.mcap")
    figures = judged("replay", bag, tmp_path / "a")
    assert figures["messages_sent"] == IMAGES and figures["messages_without_answer"] == 0
    assert figures["valid"] == 1 and figures["ate_metric_percent"] < 0.1 and figures["rpe_cm"] < 0.1
    again = judged("evaluate", tmp_path / "a/reconstruction.mcap", tmp_path / "b", "--recorded")
    assert again["ate_metric_percent"] == pytest.approx(figures["ate_metric_percent"])


def test_poses_of_a_world_that_began_later_count_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Reconstructor.update

    def restarted(self, rgb, matrix):
        view = update(self, rgb, matrix)
        late = self._stream.chunk.images > IMAGES // 2
        return dataclasses.replace(view, world=int(late), pose=np.eye(4) if late else view.pose)

    monkeypatch.setattr(Reconstructor, "update", restarted)
    figures = judged("evaluate", write_bag(tmp_path / "ball.mcap"), tmp_path / "a")
    assert figures["worlds"] == 2 and figures["valid"] == 0.5 and figures["ate_metric_percent"] < 0.1


def test_a_bag_without_poses_says_that_nothing_can_be_judged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bag = write_bag(tmp_path / "ball.mcap", with_poses=False)
    assert cli.main(["evaluate", str(bag), "--tasks", "reconstruction", "--out", str(tmp_path / "a")]) != 0
    assert "nothing to judge" in capsys.readouterr().err
