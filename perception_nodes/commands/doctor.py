# SPDX-License-Identifier: Apache-2.0
"""Say what works on this machine, and how to mend what does not. Exit status 1 where something needed is missing.

example: perception doctor
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

LARGE_BUFFER = 4_000_000


class Finding(NamedTuple):
    """One line of the examination: what was looked at, whether it is fine, and what to do where it is not."""

    subject: str
    fine: bool
    text: str
    needed: bool = True


def configure(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def run(arguments: argparse.Namespace) -> int:
    """Examine, a line each."""
    findings = [finding for examine in (_packages, _ros, _weights, _tensorrt, _buffers) for finding in examine()]
    for finding in findings:
        mark = "ok     " if finding.fine else "MISSING" if finding.needed else "note   "
        print(f"{mark} {finding.subject}: {finding.text}")
    return 0 if all(finding.fine or not finding.needed for finding in findings) else 1


def _packages() -> list[Finding]:
    return [_package(name, "pip install .") for name in ("numpy", "onnxruntime", "rosbags", "pillow", "PyYAML")]


def _package(name: str, remedy: str, needed: bool = True) -> Finding:
    try:
        return Finding(name, True, version(name), needed)
    except PackageNotFoundError:
        return Finding(name, False, f"not installed: {remedy}", needed)


def _ros() -> list[Finding]:
    remedy = "source a ROS 2 installation, or run `make` for the wheels"
    modules = ("rclpy", "sensor_msgs.msg", "tf2_msgs.msg", "vision_msgs.msg")
    return [_tried(module, partial(_place, module), remedy) for module in modules]


def _place(module: str) -> str:
    return str(import_module(module).__file__)


def _weights() -> list[Finding]:
    from perception_models.runtime.build import model_name, weight_folders

    remedy = "restore the weights from the repository"
    names = {f"weights {model_name(folder)}": folder for folder in weight_folders()}
    found = [_tried(name, partial(_load, folder), remedy) for name, folder in names.items()]
    return found or [Finding("weights", False, f"none found: {remedy}")]


def _load(folder: Path) -> str:
    from perception_models.runtime.load import load_engine

    with load_engine(folder, "onnxruntime") as engine:
        return f"loads, {engine.info.provider}"


def _tensorrt() -> list[Finding]:
    from perception_models.runtime.cuda import CudaDevice
    from perception_models.runtime.tensorrt_builder import import_tensorrt, library_version

    remedy = "models run on ONNX Runtime"
    return [
        _tried("TensorRT", lambda: library_version(import_tensorrt()), remedy, needed=False),
        _tried("GPU", lambda: CudaDevice().compute_capability, remedy, needed=False),
    ]


def _buffers() -> list[Finding]:
    path = Path("/proc/sys/net/core/rmem_max")
    size = int(path.read_text()) if path.exists() else 0
    remedy = f"sudo sysctl -w net.core.rmem_max={LARGE_BUFFER}, or large clouds are lost between machines"
    return [Finding("net.core.rmem_max", size >= LARGE_BUFFER, f"{size}" if size >= LARGE_BUFFER else remedy, False)]


def _tried(subject: str, attempt: Callable[[], str], remedy: str, needed: bool = True) -> Finding:
    try:
        return Finding(subject, True, attempt(), needed)
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(subject, False, f"{error}; {remedy}", needed)
