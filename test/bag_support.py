# SPDX-License-Identifier: Apache-2.0
"""Small bags with a truth that tests know."""

from pathlib import Path

import numpy as np

from perception_nodes.bag_messages import Objects
from perception_nodes.bags import BagWriter
from perception_nodes.scans import Camera, Scan, write_rig, write_scan

STAMP = 1_700_000_000 * 10**9
# Looks forward from the sensor: 90 degrees wide.
FORWARD = Camera(
    np.array([[100.0, 0, 100, 0], [0, 100, 50, 0], [0, 0, 1, 0]]),
    200,
    100,
    np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]),
)


def make_scan(index: int, names: tuple[str, ...] = ("vehicle",), count: int = 200) -> Scan:
    """A scan of one object a name, 8 m apart, which share the points; the first is the centre of the first object."""
    centres = np.array([[10 + 0.1 * index, 8.0 * row, -1.0] for row in range(len(names))])
    boxes = np.column_stack([centres, np.tile([4.0, 2.0, 1.5, 0.0], (len(names), 1))]).astype(np.float32)
    spread = np.random.default_rng(index).uniform(-0.5, 0.5, (count, 4)).astype(np.float32)
    points = np.column_stack([centres[np.arange(count) % len(names)] + spread[:, :3], np.abs(spread[:, 3])])
    points[0, :3] = centres[0]
    objects = Objects(boxes, list(names), [str(7 + row) for row in range(len(names))], np.ones(len(names), np.float32))
    pose = np.eye(4)
    pose[0, 3] = index
    rings, times = np.arange(count, dtype=np.uint16) % 64, np.linspace(0, 0.1, count, dtype=np.float32)
    return Scan(STAMP + index * 10**8, points.astype(np.float32), objects, pose, rings, times)


def make_bag(path: Path, scans: list[Scan], camera: Camera | None = None) -> Path:
    with BagWriter(path) as bag:
        write_rig(bag, scans[0].stamp, np.eye(4), camera)
        for scan in scans:
            write_scan(bag, scan)
    return path
