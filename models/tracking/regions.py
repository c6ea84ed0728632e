# SPDX-License-Identifier: Apache-2.0
"""Regions around boxes: cropped from a scan, and points and boxes in the frame of a box, in units of its size.

The region grows with the object (Nie et al., "Towards Category Unification of 3D Single Object Tracking on Point
Clouds", ICLR 2024, section 3.3): pedestrians and vans fill about the same share of it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from perception_models.geometry.boxes import wrap_angle

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.floating]


def half_extent(size: Values, margin: float, margin_z: float, reach: float = 0.0) -> Floats:
    """Half sides (3,) in metres of the region of an object of size (3,): margins are shares of the size, `reach` is
    the distance in metres that the object may be away from where it is expected."""
    around = margin * float(np.sqrt(size[0] * size[1])) + reach
    return np.array([size[0] / 2 + around, size[1] / 2 + around, size[2] * (0.5 + margin_z) + 0.2 * reach], np.float32)


class Columns:
    """A scan's coordinates one after the other, from which many regions are cropped."""

    def __init__(self, x: Floats, y: Floats, z: Floats) -> None:
        self.x, self.y, self.z = x, y, z

    @staticmethod
    def of(points: Values) -> Columns:
        """Take points (N, >= 3)."""
        return Columns(*(np.ascontiguousarray(points[:, axis], np.float32) for axis in range(3)))

    def around(self, box: Values, reach: float, height: float) -> Columns:
        """Those of the points that are at most so far from the centre of a box (7,): along x and y, and along z."""
        near = np.flatnonzero(np.abs(self.x - np.float32(box[0])) <= reach)
        near = near[np.abs(self.y[near] - np.float32(box[1])) <= reach]
        near = near[np.abs(self.z[near] - np.float32(box[2])) <= height]
        return Columns(self.x[near], self.y[near], self.z[near])

    def crop(self, box: Values, half: Values) -> Floats:
        """Points (M, 3) in the frame of a box (7,), at most `half` (3,) from its centre; metres.

        An upright square around the region comes first, so that few points are turned.
        """
        near = self.around(box, float(np.hypot(half[0], half[1])), float(half[2]))
        x, y, z = _turned(near.x, near.y, near.z, box)
        kept = np.flatnonzero((np.abs(x) <= half[0]) & (np.abs(y) <= half[1]))
        return np.stack([x[kept], y[kept], z[kept]], axis=1)


def into_box(points: Values, box: Values) -> Floats:
    """Points (M, 3) in the frame of a box (7,), metres."""
    return np.stack(_turned(points[:, 0], points[:, 1], points[:, 2], box), axis=1).astype(np.float32)


def _turned(x: Values, y: Values, z: Values, box: Values) -> tuple[Values, Values, Values]:
    """Coordinates in the frame of a box (7,)."""
    cos, sin = math.cos(box[6]), math.sin(box[6])
    x, y = x - box[0], y - box[1]
    return cos * x + sin * y, cos * y - sin * x, z - box[2]


def offset_between(box: Values, other: Values) -> Values:
    """Where `other` (7,) is, seen from `box` (7,): x y z in units of box's size, and yaw."""
    offset = np.empty(4)
    offset[:3] = into_box(np.asarray(other, float)[None, :3], box)[0] / box[3:6]
    offset[3] = wrap_angle(np.asarray(other[6] - box[6], float))
    return offset


def moved_box(box: Values, offset: Values) -> Floats:
    """Inverse of `offset_between`: the box (7,) at an offset (4,) from `box`, with its size."""
    cos, sin = np.cos(float(box[6])), np.sin(float(box[6]))
    x, y, z = np.asarray(offset[:3], float) * box[3:6]
    moved = np.array([box[0] + cos * x - sin * y, box[1] + sin * x + cos * y, box[2] + z, *box[3:6], 0.0])
    moved[6] = wrap_angle(np.asarray(box[6] + offset[3], float))
    return moved.astype(np.float32)
