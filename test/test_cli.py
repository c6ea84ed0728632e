# SPDX-License-Identifier: Apache-2.0
"""The command line: help without heavy imports, exit statuses, and evaluation from a bag to its report."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bag_support import FORWARD, make_bag, make_scan

from perception_models.detection import Detections
from perception_nodes import cli
from perception_nodes.scans import ScanBag


class FakeDetector:
    """Finds a car at the cloud's first point, and one where nothing is, behind the sensor."""

    def __init__(self) -> None:
        self.engine_info = "fake"
        self.timing = {"preprocess": 1.0, "inference": 2.0, "postprocess": 0.5}

    def detect(self, points: np.ndarray) -> Detections:
        boxes = np.array([[*points[0, :3], 4, 2, 1.5, 0], [-10, 0, -1, 4, 2, 1.5, 0]], np.float32)
        return Detections(boxes, np.array([0.9, 0.95], np.float32), np.array([0, 0]), ("vehicle",))


@pytest.fixture
def fake_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perception_models.detection.Detector.load", lambda **_: FakeDetector())


def evaluate(bag: Path, out: Path, *words: str) -> dict:
    assert cli.main(["evaluate", str(bag), "--out", str(out), *words]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from perception_nodes import cli; cli.main(['--help'])"
    check = "print([m for m in ('torch', 'rclpy', 'rosbags', 'onnxruntime', 'open3d', 'numpy') if m in sys.modules])"
    code = f"import sys\ntry:\n    {program}\nexcept SystemExit:\n    {check}"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"example: perception {command}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["no-such-command"], ["convert", "no-such-layout", "a", "b"], ["evaluate"]])
def test_wrong_arguments_end_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["convert", "kitti-raw", "nowhere", "out.mcap"], "give the ..._sync folder"),
        (["evaluate", "nowhere.mcap", "--out", "out"], "is not a bag"),
        (["evaluate", "nowhere.mcap", "--tasks", "cooking", "--out", "out"], "no task is called cooking"),
        (["simulate", "drive", "out.bag", "--seconds", "1"], "out.mcap"),
    ],
)
def test_failures_end_with_1_and_a_reason(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.usefixtures("fake_detector")
def test_evaluate_judges_only_what_the_truth_covers(tmp_path: Path) -> None:
    scans = [make_scan(i, ("vehicle", "ignore")) for i in range(20)]
    everywhere = evaluate(make_bag(tmp_path / "a.mcap", scans), tmp_path / "a")["detection"]
    ahead = evaluate(make_bag(tmp_path / "b.mcap", scans, FORWARD), tmp_path / "b")["detection"]
    assert everywhere["vehicle_false_per_frame"] == 1 and ahead["vehicle_false_per_frame"] == 0
    assert everywhere["vehicle_ap_3d_70"] == 50 and ahead["vehicle_ap_3d_70"] == 100
    assert ahead["vehicle_ap_bev_50_interval"] == 0 and ahead["vehicle_objects"] == 20
    assert ahead["latency_inference_p95_ms"] == 2 and ahead["latency_total_p50_ms"] == 3.5


@pytest.mark.usefixtures("fake_detector")
def test_evaluate_is_deterministic_and_its_report_stands_alone(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "a.mcap", [make_scan(i, ("vehicle", "cyclist")) for i in range(20)])
    first, second = (evaluate(bag, tmp_path / name)["detection"] for name in "ab")
    assert first == second
    assert first["cyclist_ap_bev_25"] == 0
    page = (tmp_path / "a/report.html").read_text()
    assert page == (tmp_path / "b/report.html").read_text()
    assert page.count("data:image/png;base64,") == 6 and "<svg" in page and "worst: scan" in page
    assert 'src="http' not in page and "href=" not in page


@pytest.mark.usefixtures("fake_detector")
def test_a_bag_without_truth_gives_latency_only(tmp_path: Path) -> None:
    bag = make_bag(tmp_path / "a.mcap", [dataclasses.replace(make_scan(i), objects=None) for i in range(3)])
    figures = evaluate(bag, tmp_path / "out")["detection"]
    assert figures["scans_without_truth"] == 3 and figures["latency_total_p50_ms"] == 3.5
    assert not [name for name in figures if "_ap_" in name]


def test_a_simulated_drive_carries_truth_rings_and_times(tmp_path: Path) -> None:
    pytest.importorskip("perception_models.simulation.drive", exc_type=ImportError)
    path = tmp_path / "drive.mcap"
    assert cli.main(["simulate", "drive", str(path), "--seconds", "0.3", "--sensor", "vlp16"]) == 0
    with ScanBag(path) as bag:
        scans = list(bag)
    assert len(scans) == 3 and scans[1].stamp - scans[0].stamp == 10**8 and scans[0].stamp > 0
    assert all(len(scan.points) > 5000 and scan.objects is not None for scan in scans)


def test_an_unknown_sensor_is_refused_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "drive", str(tmp_path / "a.mcap"), "--sensor", "sonar"]) == 1
    assert "hdl64" in capsys.readouterr().err
