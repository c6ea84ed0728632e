# SPDX-License-Identifier: Apache-2.0
"""Says in one line what this machine lacks for the set-up, and the command that installs it.

Runs before anything is installed, with the Python that the venv will be made of; exit status 1 where something lacks.
"""

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig


def main() -> int:
    """Checks Python, the processor and the compilers; returns the exit status."""
    problem = unsuitable() or missing()
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def unsuitable() -> str:
    """What no package can mend, or an empty text."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return (
            f"Python {platform.python_version()} is not supported; 3.10 to 3.13 are: "
            "sudo apt-get install -y python3-venv python3-dev, then make PYTHON=/path/to/python3"
        )
    if "ROS_DISTRO" not in os.environ and platform.machine() != "x86_64":
        return (
            f"The ROS 2 wheels are for x86_64 and this is {platform.machine()}: "
            "sudo apt-get install -y ros-humble-ros-base, source its setup.bash, then run make again"
        )
    return ""


def missing() -> str:
    """The missing Debian packages with the command that installs them all, or an empty text."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    headers = os.path.join(sysconfig.get_path("include"), "Python.h")
    wanted = {
        f"{python}-venv": importlib.util.find_spec("ensurepip") is not None,
        f"{python}-dev": "ROS_DISTRO" in os.environ or os.path.exists(headers),
        "gcc": shutil.which("gcc"),
        "g++": shutil.which("g++"),
        "make": shutil.which("make"),
    }
    packages = " ".join(package for package, present in wanted.items() if not present)
    return f"Missing: {packages}. Install with: sudo apt-get install -y {packages}" if packages else ""


if __name__ == "__main__":
    sys.exit(main())
