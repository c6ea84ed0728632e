# SPDX-License-Identifier: Apache-2.0
"""The arrows of docs/architecture.md: who may import whom, and what never reaches a robot."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
NODES = ROOT / "perception_nodes"
TASKS = sorted(path.parent.name for path in MODELS.glob("*/pipeline.py"))
ROS = {"rclpy", "launch", "launch_ros", "tf2_ros", "rosidl_runtime_py", "rosidl_parser", "rosbags", "perception_nodes"}

# What each package under models/ may import of the others; `task` stands for each folder with a pipeline.
ARROWS: dict[str, set[str]] = {
    "geometry": set(),
    "runtime": set(),
    "simulation": {"geometry"},
    "evaluation": {"geometry"},
    "task": {"geometry", "runtime", "simulation"},
}


def module_name(path: Path) -> str:
    """Import name of a file under models/ or perception_nodes/."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts[0] = {"models": "perception_models"}.get(parts[0], parts[0])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports anywhere, also inside functions."""
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")]
            yield from (".".join([*filter(None, module), alias.name]) for alias in node.names)


def packages_used(path: Path) -> set[str]:
    """The packages directly under models/ that a file imports."""
    names = (name.split(".") for name in imported(path))
    used = {name[1] for name in names if name[0] == "perception_models" and len(name) > 1}
    return {name for name in used if (MODELS / name).is_dir()}


def model_files() -> list[Path]:
    """Every Python file in a package under models/."""
    return sorted(MODELS.glob("*/**/*.py"))


def run_python(program: str) -> str:
    """Standard output of a program run by a Python of its own, so that nothing is imported before it."""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def robot_modules() -> list[str]:
    """What runs on a robot: the ROS side, every task's pipeline, and what both stand on."""
    files = [*NODES.rglob("*.py"), *MODELS.glob("*/pipeline.py")]
    files += [path for package in ("runtime", "geometry") for path in (MODELS / package).glob("*.py")]
    return sorted(map(module_name, files))


def test_relative_and_nested_imports_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "models" / "runtime" / "thing.py"
    path.parent.mkdir(parents=True)
    path.write_text("from .. import tracking\nfrom .load import engine\ndef f():\n    import rclpy.node\n")

    assert list(imported(path)) == [
        "perception_models.tracking",
        "perception_models.runtime.load.engine",
        "rclpy.node",
    ]


def test_nothing_that_runs_on_the_robot_imports_torch() -> None:
    modules = robot_modules()
    assert "perception_models.detection.pipeline" in modules
    assert "perception_nodes.detection_node" in modules

    loaded = run_python(
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'torch'])"
    )

    assert loaded == "[]"


def test_a_pipeline_runs_without_the_workshop() -> None:
    """Neither the simulator nor the metrics travel to a robot with a pipeline."""
    for task in TASKS:
        loaded = run_python(
            f"import sys, perception_models.{task}.pipeline\n"
            "print([name for name in sys.modules if name.startswith(('perception_models.simulation', "
            "'perception_models.evaluation', 'rclpy'))])"
        )

        assert loaded == "[]", f"{task} pipeline"


def test_models_know_nothing_of_ros() -> None:
    messages = ("_msgs", "_srvs", "_interfaces")
    roots = {path: {name.split(".")[0] for name in imported(path)} for path in model_files()}

    assert not {path for path, names in roots.items() if names & ROS or any(name.endswith(messages) for name in names)}


def test_packages_of_models_import_along_the_arrows() -> None:
    against = {}
    for path in model_files():
        package = path.relative_to(MODELS).parts[0]
        against[path] = packages_used(path) - ARROWS["task" if package in TASKS else package] - {package}

    assert not {path: packages for path, packages in against.items() if packages}
