# SPDX-License-Identifier: Apache-2.0
"""Simulate a drive through streets with traffic and write it as a bag with its truth.

example: perception simulate drive out/drive.mcap --seconds 20 --sensor hdl64 --seed 7
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from perception_models.simulation.frame import LidarFrame
    from perception_nodes.scans import Scan

RATE = 10
# Simulated time starts here (2026-01-01 UTC): nodes reject the stamp zero.
EPOCH = 1_767_225_600 * 10**9


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("world", choices=["drive"], help="what to simulate")
    parser.add_argument("out", type=Path, help="the bag to write, OUT.mcap")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the drive (default: %(default)s)")
    parser.add_argument("--sensor", default="hdl64", help="hdl64, hdl32, vlp16 or os1_128 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another street (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Simulate and write."""
    from perception_nodes.bags import BagWriter
    from perception_nodes.scans import write_rig, write_scan

    with BagWriter(arguments.out) as bag:
        write_rig(bag, EPOCH, np.eye(4))
        for scan in scans(arguments.seed, arguments.seconds, arguments.sensor):
            write_scan(bag, scan)
    print(f"{arguments.out}: {arguments.seconds:g} s of a simulated drive")
    return 0


def scans(seed: int, seconds: float, sensor: str) -> "Iterator[Scan]":
    """The scans of a simulated drive; base_link is the sensor. Raises ValueError for an unknown sensor."""
    from perception_models.simulation.drive import simulate_drive
    from perception_models.simulation.sensors import SENSORS
    from perception_nodes.progress import progress

    if sensor not in SENSORS:
        raise ValueError(f"the sensor '{sensor}' is unknown; known are {', '.join(SENSORS)}")
    frames = simulate_drive(seed, seconds, sensor)
    for frame in progress(frames, round(seconds * RATE), "simulating"):
        yield _scan(frame)


def _scan(frame: "LidarFrame") -> "Scan":
    from perception_models.classes import CLASSES
    from perception_nodes.bag_messages import Objects
    from perception_nodes.scans import Scan

    names = [CLASSES[label] for label in frame.labels]
    objects = Objects(frame.boxes, names, [str(track) for track in frame.track_ids], np.ones(len(names), np.float32))
    stamp = EPOCH + round(frame.stamp * 1e9)
    return Scan(stamp, frame.points, objects, frame.pose, frame.rings, frame.times)
