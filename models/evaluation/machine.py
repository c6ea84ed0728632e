# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on: processor, cores, memory, versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu12")


def machine() -> dict[str, str]:
    """Processor with the cores that this process may use, system, versions."""
    cores = len(os.sched_getaffinity(0))
    return {
        "processor": f"{cores} cores of {_processor()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": ", ".join([f"Python {platform.python_version()}", *_versions()]),
    }


def peak_memory(pid: int) -> float:
    """Largest resident memory of a running process so far, MB (10^6 bytes). Linux only."""
    return _memory(pid, "VmHWM")


def resident_memory(pid: int) -> float:
    """Resident memory of a running process now, MB (10^6 bytes). Linux only."""
    return _memory(pid, "VmRSS")


def _memory(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(name))
    return int(kilobytes) * 1024 / 1e6


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
