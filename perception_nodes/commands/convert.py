# SPDX-License-Identifier: Apache-2.0
"""Convert a recorded drive into a bag: clouds, poses and, where labels are present, the truth and what it covers.

kitti-raw: SRC is the drive's folder in KITTI's raw layout; scans are .bin or .klz, labels are read from SRC/tracking.

example: perception convert kitti-raw kitti/2011_09_26/2011_09_26_drive_0005_sync out/drive_0005.mcap
"""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("layout", choices=["kitti-raw"], help="how the data set is laid out")
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of the drive")
    parser.add_argument("out", type=Path, help="the bag to write, OUT.mcap")


def run(arguments: argparse.Namespace) -> int:
    """Convert the drive."""
    from perception_nodes.bags import BagWriter
    from perception_nodes.kitti import KittiDrive
    from perception_nodes.progress import progress
    from perception_nodes.scans import write_rig, write_scan

    drive = KittiDrive(arguments.source)
    with BagWriter(arguments.out) as bag:
        for index, scan in enumerate(progress(drive, len(drive), "converting")):
            if index == 0:
                write_rig(bag, scan.stamp, drive.lidar_in_base, drive.camera if drive.labelled else None)
            write_scan(bag, scan)
    truth = "with labels" if drive.labelled else "without labels (no tracking/label_02_*.txt)"
    print(f"{arguments.out}: {len(drive)} scans, {truth}")
    return 0
