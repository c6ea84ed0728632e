# SPDX-License-Identifier: Apache-2.0
"""Simulate a drive through streets, or a camera carried through a furnished room, as a bag with its truth.

example: perception simulate drive out/drive.mcap --seconds 20 --sensor hdl64 --seed 7
         perception simulate room out/room.mcap --seconds 20 --seed 7
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from perception_models.simulation.frame import LidarFrame
    from perception_nodes.bags import BagWriter
    from perception_nodes.scans import Scan

RATE = 10
# Simulated time starts here (2026-01-01 UTC): nodes reject the stamp zero.
EPOCH = 1_767_225_600 * 10**9


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("world", choices=["drive", "room"], help="what to simulate")
    parser.add_argument("out", type=Path, help="the bag to write, OUT.mcap")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="length of the drive or walk (default: %(default)s)"
    )
    parser.add_argument(
        "--sensor", default="hdl64", help="of a drive: hdl64, hdl32, vlp16, os1_128 (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed is another street or room (default: %(default)s)"
    )
    parser.add_argument("--walk", type=int, default=0, help="another way through the same room (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Simulate and write."""
    from perception_nodes.bags import BagWriter

    with BagWriter(arguments.out) as bag:
        if arguments.world == "room":
            _write_room(bag, arguments.seed, arguments.seconds, arguments.walk)
        else:
            _write_drive(bag, arguments.seed, arguments.seconds, arguments.sensor)
    print(
        f"{arguments.out}: {arguments.seconds:g} s in a simulated {'room' if arguments.world == 'room' else 'street'}"
    )
    return 0


def _write_drive(bag: "BagWriter", seed: int, seconds: float, sensor: str) -> None:
    from perception_nodes.scans import write_rig, write_scan

    write_rig(bag, EPOCH, np.eye(4))
    for scan in scans(seed, seconds, sensor):
        write_scan(bag, scan)


def _write_room(bag: "BagWriter", seed: int, seconds: float, walk: int) -> None:
    from perception_models.simulation.rgbd_camera import KINECT
    from perception_models.simulation.room_drive import simulate_room
    from perception_nodes.progress import progress
    from perception_nodes.rgbd_bag import write_rgbd, write_rgbd_rig

    camera, count = replace(KINECT, unit=seed), round(seconds * RATE)
    write_rgbd_rig(bag, EPOCH)
    for view in progress(simulate_room(seed, count, camera, rate=RATE, walk=walk), count, "simulating"):
        write_rgbd(bag, EPOCH + round(view.stamp * 1e9), view.frame, view.frame.pose, view.instances)


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
