# SPDX-License-Identifier: Apache-2.0
"""`perception benchmark odometry`: methods on the same scans, against each other and the recording."""

from __future__ import annotations

import importlib.util
import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_nodes import cli
from perception_nodes.commands import benchmark_odometry as benchmark
from perception_nodes.judges.odometry_methods import METHODS

INSTALLED = [name for name in METHODS if name != "KISS-ICP" or importlib.util.find_spec("kiss_icp")]


def straight(step: list[float], yaw: float = 0.0) -> np.ndarray:
    """Thirteen poses (13, 4, 4), each a step (m) ahead of the one before and turned by yaw."""
    poses = [np.eye(4)]
    for _ in range(12):
        poses.append(poses[-1] @ se3.from_yaw_pitch_roll(yaw, 0, 0, step))
    return np.array(poses)


def test_differences_are_those_of_motion_and_ends() -> None:
    found = benchmark.differences(
        {"a": straight([1.01, 0, 0]), "b": straight([1, 0, 0]), "none": np.full((13, 4, 4), np.nan)}
    )

    assert list(found) == ["a to b"]
    figures = found["a to b"]
    assert figures["mean cm"] == pytest.approx(10)
    assert figures["max deg"] == pytest.approx(0, abs=1e-4)
    assert figures["end m"] == pytest.approx(0.12)
    assert figures["end %"] == pytest.approx(1)
    assert benchmark.differences({"a": straight([1, 0, 0], 0.01), "b": straight([1, 0, 0])})["a to b"]["mean deg"] == (
        pytest.approx(np.degrees(0.1))
    )


def test_methods_are_measured_on_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "drive.mcap"
    cli.main(["simulate", "drive", str(bag), "--seconds", "1.5", "--sensor", "hdl32", "--seed", "2"])
    parser = ArgumentParser()
    benchmark.configure(parser)

    status = benchmark.run(parser.parse_args([str(bag), "--out", str(tmp_path), "--methods", *INSTALLED]))

    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert status == 0
    assert (tmp_path / "report.html").exists()
    for name in INSTALLED:
        assert metrics[name]["p95"] >= metrics[name]["p50"] > 0
        assert metrics[f"{name} to recording"]["mean deg"] < 1
        assert name in printed
    assert metrics["ours to recording"]["mean cm"] < 3
