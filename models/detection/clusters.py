# SPDX-License-Identifier: Apache-2.0
"""The classical detector that the networks are compared with: clusters above the ground, rectangles, sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from perception_models.classes import CLASSES, CYCLIST, PEDESTRIAN, VEHICLE
from perception_models.detection.pipeline import Detections
from perception_models.geometry.pillars import Floats, PillarGrid, group_into_pillars, local_ground

HEADINGS = np.radians(np.arange(0, 90, 3))
RISE = (0.3, 3.5)  # m above the local ground
# Lowest and highest length, width and height (m) of a cluster of each class.
SIZES = {
    PEDESTRIAN: ((0.2, 1.1), (0.1, 0.9), (1.1, 2.1)),
    CYCLIST: ((1.1, 2.2), (0.2, 1.0), (1.1, 2.1)),
    VEHICLE: ((1.4, 7.0), (0.4, 2.7), (0.9, 3.2)),
}
WHOLE = np.array([4.1, 1.75])  # m: a vehicle seen in part is completed to this, away from the sensor


def detect_clusters(points: Floats, grid: PillarGrid | None = None) -> Detections:
    """Boxes of the connected pillars of an (N, 4) cloud that have a class's size; the score grows with the points."""
    grid = grid or PillarGrid()
    pillars = group_into_pillars(points, grid)
    ground = local_ground(pillars, grid, window=9)
    rise = pillars.highest - ground
    raised = np.zeros(grid.size**2, bool)
    raised[pillars.cells[(rise > RISE[0]) & (rise < RISE[1])]] = True
    clusters, _ = ndimage.label(raised.reshape(grid.size, grid.size), np.ones((3, 3)))
    owner = np.repeat(clusters.ravel()[pillars.cells], pillars.counts)
    floor = np.repeat(ground, pillars.counts)
    standing = (owner > 0) & (pillars.points[:, 2] > floor + 0.15)
    order = np.argsort(owner[standing], kind="stable")
    members = np.split(np.flatnonzero(standing)[order], np.flatnonzero(np.diff(owner[standing][order])) + 1)
    found = [_classify(pillars.points[rows], float(floor[rows].min())) for rows in members if len(rows) >= 5]
    kept = [one for one in found if one is not None]
    return Detections(
        np.array([box for box, _, _ in kept], np.float32).reshape(-1, 7),
        np.array([score for _, score, _ in kept], np.float32),
        np.array([label for _, _, label in kept], np.int64),
        CLASSES,
    )


def _classify(points: Floats, floor: float) -> tuple[npt.NDArray[np.float64], float, int] | None:
    """Box, score and class of one cluster, or None where no class has its size."""
    box = _rectangle(points[:, :2].astype(float))
    height = float(points[:, 2].max()) - floor
    for label, limits in SIZES.items():
        if all(low <= side <= high for side, (low, high) in zip((*box[2:4], height), limits, strict=True)):
            whole = _completed(box) if label == VEHICLE else box
            placed = np.array([whole[0], whole[1], floor + height / 2, whole[2], whole[3], height, whole[4]])
            return placed, float(1 - np.exp(-len(points) / 100)), label
    return None


def _rectangle(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rectangle x y length width heading of least area around points (N, 2), among `HEADINGS`."""
    axes = np.stack([np.cos(HEADINGS), np.sin(HEADINGS)], axis=1)
    along, across = xy @ axes.T, xy @ np.stack([-axes[:, 1], axes[:, 0]])
    sides = np.stack([np.ptp(along, axis=0), np.ptp(across, axis=0)])
    best = int(np.argmin(sides.prod(axis=0)))
    u, v = ((part[:, best].max() + part[:, best].min()) / 2 for part in (along, across))
    c, s = axes[best]
    length, width = sides[:, best]
    turned = width > length
    heading = HEADINGS[best] + (np.pi / 2 if turned else 0)
    return np.array([u * c - v * s, u * s + v * c, max(length, width), min(length, width), heading])


def _completed(box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Grow length and width to a whole vehicle's, away from the sensor: the side that faces it stays."""
    axes = np.array([[np.cos(box[4]), np.sin(box[4])], [-np.sin(box[4]), np.cos(box[4])]])
    grown = np.maximum(box[2:4], WHOLE)
    outward = np.sign(axes @ box[:2])
    centre = box[:2] + ((grown - box[2:4]) / 2 * outward) @ axes
    return np.array([*centre, *grown, box[4]])
