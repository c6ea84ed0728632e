# SPDX-License-Identifier: Apache-2.0
"""What every test stands on: a ROS domain of its own, and the folder of recorded data."""

import os
from pathlib import Path

# Before any test module can import rclpy: tests of two checkouts on one machine must not hear each other.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def perception_data() -> Path:
    """The folder of recorded data, $PERCEPTION_DATA; the test is skipped where it is absent."""
    folder = Path(os.environ.get("PERCEPTION_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}; set PERCEPTION_DATA")
    return folder
