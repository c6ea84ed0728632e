# SPDX-License-Identifier: Apache-2.0
"""Convert a recorded data set into a bag, with the truth that it has.

kitti-raw: SRC is a drive's folder in KITTI's raw layout; scans are .bin or .klz, labels are read from SRC/tracking.
7scenes:   SRC is a sequence's folder in the layout of 7-Scenes; depth is registered to colour, poses are the colour
           camera's.

example: perception convert kitti-raw kitti/2011_09_26/2011_09_26_drive_0005_sync out/drive_0005.mcap
"""

import argparse
from pathlib import Path

SEVEN_SCENES_RATE = 30  # frames a second of its Kinect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("layout", choices=list(CONVERTERS), help="how the data set is laid out")
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of the drive or sequence")
    parser.add_argument("out", type=Path, help="the bag to write, OUT.mcap")


def run(arguments: argparse.Namespace) -> int:
    """Convert and say what came of it."""
    print(f"{arguments.out}: {CONVERTERS[arguments.layout](arguments.source, arguments.out)}")
    return 0


def convert_kitti(source: Path, out: Path) -> str:
    """Clouds, poses, and where labels are present, the truth and what it covers."""
    from perception_nodes.bags import BagWriter
    from perception_nodes.kitti import KittiDrive
    from perception_nodes.progress import progress
    from perception_nodes.scans import write_rig, write_scan

    drive = KittiDrive(source)
    with BagWriter(out) as bag:
        for index, scan in enumerate(progress(drive, len(drive), "converting")):
            if index == 0:
                write_rig(bag, scan.stamp, drive.lidar_in_base, drive.camera if drive.labelled else None)
            write_scan(bag, scan)
    truth = "with labels" if drive.labelled else "without labels (no tracking/label_02_*.txt)"
    return f"{len(drive)} scans, {truth}"


def convert_seven_scenes(source: Path, out: Path) -> str:
    """Images, depth and poses, at the camera's rate from the simulated epoch on: the data set has no stamps."""
    from perception_nodes.bags import BagWriter
    from perception_nodes.commands.simulate import EPOCH
    from perception_nodes.progress import progress
    from perception_nodes.rgbd_bag import write_rgbd, write_rgbd_rig
    from perception_nodes.seven_scenes import SevenScenes

    scene = SevenScenes(source)
    with BagWriter(out) as bag:
        write_rgbd_rig(bag, EPOCH)
        for number, frame in zip(scene.numbers, progress(scene, len(scene), "converting"), strict=True):
            write_rgbd(bag, EPOCH + number * 10**9 // SEVEN_SCENES_RATE, frame, frame.pose)
    return f"{len(scene)} images with depth and poses"


CONVERTERS = {"kitti-raw": convert_kitti, "7scenes": convert_seven_scenes}
