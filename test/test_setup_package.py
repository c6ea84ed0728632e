# SPDX-License-Identifier: Apache-2.0
"""What is installed is whole: packages, weights, launch files, parameters, executables."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PREFLIGHT = ROOT / "tools" / "preflight.py"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in the wheel that `pip install .` makes; built from a copy, so nothing is left in the tree."""
    pytest.importorskip("setuptools", reason="setuptools is not in this environment")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listing = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            (source / name).symlink_to(ROOT / name)
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*wheel, "--wheel-dir", str(out), str(source)], check=True, capture_output=True)
    with ZipFile(next(out.glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_wheel_holds_every_module_under_its_import_name(wheel: set[str]) -> None:
    for folder, name in (("models", "perception_models"), ("perception_nodes", "perception_nodes")):
        modules = {f"{name}/{path.relative_to(ROOT / folder)}" for path in (ROOT / folder).rglob("*.py")}
        assert modules - wheel == set()


def test_wheel_holds_the_weights(wheel: set[str]) -> None:
    weights = [path for path in (ROOT / "models").glob("*/weights/*/*") if path.is_file()]
    assert {f"perception_models/{path.relative_to(ROOT / 'models')}" for path in weights} - wheel == set()


def test_wheel_holds_what_launch_looks_for(wheel: set[str]) -> None:
    shared = {name.partition(".data/data/")[2] for name in wheel}
    expected = {
        f"share/perception_nodes/{path.relative_to(ROOT)}"
        for folder in ("launch", "config", "rviz")
        for path in (ROOT / folder).iterdir()
        if path.is_file()
    }
    assert expected - shared == set()
    assert "share/ament_index/resource_index/packages/perception_nodes" in shared


def test_package_manifest_names_a_valid_address_and_the_ament_python_build_type() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    assert "@" in manifest.find("maintainer").attrib["email"]  # type: ignore[union-attr]
    assert manifest.findtext("export/build_type") == "ament_python"


def test_every_key_of_the_parameter_file_is_a_parameter_with_that_default() -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from perception_nodes.detection_node import DetectionParameters
    from perception_nodes.parameters import ros_name

    declared = {ros_name(entry): entry.default for entry in fields(DetectionParameters)}
    file = yaml.safe_load((ROOT / "config" / "detection.yaml").read_text())
    assert flat(file["/**"]["ros__parameters"]) == declared


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots, as ROS reads them."""
    leaves = {f"{prefix}{key}": value for key, value in tree.items() if not isinstance(value, dict)}
    branches = [flat(value, f"{prefix}{key}.") for key, value in tree.items() if isinstance(value, dict)]
    return {name: value for part in (leaves, *branches) for name, value in part.items()}


def test_preflight_names_missing_compilers_and_the_command_that_installs_them(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    command = [sys.executable, str(PREFLIGHT)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "apt-get install -y" in result.stderr and "gcc g++ make" in result.stderr


def test_preflight_is_silent_where_nothing_is_missing() -> None:
    result = subprocess.run([sys.executable, str(PREFLIGHT)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
