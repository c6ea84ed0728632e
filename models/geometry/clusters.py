# SPDX-License-Identifier: Apache-2.0
"""What stands on the ground, apart from each other: clusters of points, and rectangles around them from above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from perception_models.geometry.pillars import Floats, PillarGrid, group_into_pillars, local_ground

Values = npt.NDArray[np.float64]

HEADINGS = np.radians(np.arange(0, 90, 3))
RISE = (0.3, 3.5)  # m above the local ground that the top of a cluster's pillars reaches
CLEARANCE = 0.15  # m above the ground from which points belong to a cluster
FEWEST = 5  # points


@dataclass(frozen=True)
class Cluster:
    """points (N, 4) x y z intensity that are connected; floor: height of the ground under them, m."""

    points: Floats
    floor: float


def find_clusters(points: Floats, grid: PillarGrid | None = None) -> list[Cluster]:
    """Connected pillars of an (N, 4) cloud that rise above the ground around them."""
    grid = grid or PillarGrid()
    pillars = group_into_pillars(points, grid)
    ground = local_ground(pillars, grid, window=9)
    rise = pillars.highest - ground
    raised = np.zeros(grid.size**2, bool)
    raised[pillars.cells[(rise > RISE[0]) & (rise < RISE[1])]] = True
    clusters, _ = ndimage.label(raised.reshape(grid.size, grid.size), np.ones((3, 3)))
    owner = np.repeat(clusters.ravel()[pillars.cells], pillars.counts)
    floor = np.repeat(ground, pillars.counts)
    standing = (owner > 0) & (pillars.points[:, 2] > floor + CLEARANCE)
    order = np.argsort(owner[standing], kind="stable")
    members = np.split(np.flatnonzero(standing)[order], np.flatnonzero(np.diff(owner[standing][order])) + 1)
    return [Cluster(pillars.points[rows], float(floor[rows].min())) for rows in members if len(rows) >= FEWEST]


def rectangle(xy: Values) -> Values:
    """Rectangle x y length width heading of least area around points (N, 2), among `HEADINGS`."""
    axes = np.stack([np.cos(HEADINGS), np.sin(HEADINGS)], axis=1)
    along, across = xy @ axes.T, xy @ np.stack([-axes[:, 1], axes[:, 0]])
    areas = np.ptp(along, axis=0) * np.ptp(across, axis=0)
    box = rectangle_along(xy, float(HEADINGS[np.argmin(areas)]))
    if box[3] > box[2]:
        box[2:] = box[3], box[2], box[4] + np.pi / 2
    return box


def rectangle_along(xy: Values, heading: float) -> Values:
    """Rectangle x y length width heading around points (N, 2), its length along a heading."""
    c, s = np.cos(heading), np.sin(heading)
    local = xy @ np.array([[c, -s], [s, c]])
    low, high = local.min(axis=0), local.max(axis=0)
    u, v = (low + high) / 2
    return np.array([u * c - v * s, u * s + v * c, *(high - low), heading])


def completed(box: Values, whole: Values) -> Values:
    """A rectangle (5,) grown to a length and width (2,) away from the sensor: the side that faces it stays."""
    axes = np.array([[np.cos(box[4]), np.sin(box[4])], [-np.sin(box[4]), np.cos(box[4])]])
    grown = np.maximum(box[2:4], whole)
    outward = np.sign(axes @ box[:2])
    centre = box[:2] + ((grown - box[2:4]) / 2 * outward) @ axes
    return np.array([*centre, *grown, box[4]])
