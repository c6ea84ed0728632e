# SPDX-License-Identifier: Apache-2.0
"""Close views of what is in a simulated room, mostly of clutter, as a robot's camera sees a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.rgbd_camera import KINECT, RgbdCamera
from perception_models.simulation.rooms import Room

Matrix = NDArray[np.float64]
Rng = np.random.Generator

SMALL = 0.7  # m, the largest side of clutter
REACH = (0.5, 2.2)  # m, from the camera to what it looks at
ELEVATION = (0.15, 1.25)  # rad
ZOOM = (0.75, 1.35)  # of the focal length
CLEARANCE = 0.2  # m


@dataclass(frozen=True)
class Things:
    """Centre (T, 3) and largest side (T,) of the instances of a room, in metres."""

    centres: Matrix
    sides: Matrix

    @staticmethod
    def of(room: Room) -> Things:
        """Measure all instances but the building."""
        mesh = room.mesh
        corners = mesh.vertices[mesh.faces]
        low = np.full((mesh.instances.max() + 1, 3), np.inf)
        high = -low
        np.minimum.at(low, mesh.instances, corners.min(axis=1))
        np.maximum.at(high, mesh.instances, corners.max(axis=1))
        known = np.isfinite(low[:, 0])
        known[0] = False
        return Things((low[known] + high[known]) / 2, (high - low)[known].max(axis=1))


def close_views(room: Room, rng: Rng, count: int, width: int, height: int) -> Iterator[tuple[Matrix, RgbdCamera]]:
    """At most `count` poses (4, 4), optical frame -> world, with cameras of different lenses."""
    things = Things.of(room)
    for _ in range(count if len(things.sides) else 0):
        focal_length = KINECT.focal_length * width / KINECT.width * rng.uniform(*ZOOM)
        pose = _pose(room, things, rng)
        if pose is not None:
            yield pose, random_camera(rng, width, height, focal_length)


def random_camera(rng: Rng, width: int, height: int, focal_length: float) -> RgbdCamera:
    """A camera whose depth sensor is a good or a poor one."""
    return RgbdCamera(width, height, focal_length, noise=rng.uniform(0.3, 1.5), unit=int(rng.integers(1000)))


def _pose(room: Room, things: Things, rng: Rng) -> Matrix | None:
    """A camera (4, 4), optical frame -> world, that looks at a thing from a free place; None where none is found."""
    small = np.flatnonzero(things.sides < SMALL)
    anything = np.arange(len(things.sides))
    chosen = rng.choice(small if len(small) and rng.random() < 0.8 else anything)
    target = things.centres[chosen] + rng.normal(0, 0.12, 3)
    azimuth, elevation = rng.uniform(-np.pi, np.pi, 32), rng.uniform(*ELEVATION, 32)
    directions = np.column_stack(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    start = target + directions * 0.5 * things.sides[chosen]
    free = room.cast(start, directions).distance - CLEARANCE + 0.5 * things.sides[chosen]
    reach = np.minimum(rng.uniform(*REACH, 32), free)
    good = np.flatnonzero(reach > max(REACH[0], 0.7 * things.sides[chosen]))
    if not len(good):
        return None
    return _looking_at(target, target + directions[good[0]] * reach[good[0]], rng.normal(0, 0.08))


def _looking_at(target: Matrix, place: Matrix, roll: float) -> Matrix:
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([cos * right + sin * down, cos * down - sin * right, forward])
    pose[:3, 3] = place
    return pose
