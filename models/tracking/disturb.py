# SPDX-License-Identifier: Apache-2.0
"""How training disturbs what a tracker is given: wrong boxes, hidden points, neighbours, legs that swing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.classes import VEHICLE
from perception_models.tracking.regions import Floats
from perception_models.tracking.tracklets import OTHER, OWN, Tracklet

Rng = np.random.Generator


@dataclass(frozen=True)
class Around:
    """points (N, 3) in the frame of the true box, m, and whose they are (N,)."""

    points: Floats
    owner: npt.NDArray[np.uint8]

    def only(self, rows: npt.NDArray[np.generic]) -> Around:
        """Some of the points."""
        return Around(self.points[rows], self.owner[rows])


def disturbed(size: Floats, rng: Rng) -> Floats:
    """Offset (4,), in units of the size, of a box as a tracker has it from the truth; large ones come up too."""
    large = rng.random() < 0.12
    unit = float(np.sqrt(size[0] * size[1]))
    offset = rng.normal(0, 1, 4) * [0.05 * unit, 0.05 * unit, 0.03 * size[2], 0.04] * (4.0 if large else 1.0)
    offset[:3] /= size
    clipped: Floats = np.clip(offset, -0.6, 0.6).astype(np.float32)
    return clipped


def occluded(around: Around, box: Floats, rng: Rng) -> Around:
    """Some views with a part of the points gone, or all of the object's, or everything."""
    kind = rng.random()
    if kind < 0.06:
        return around.only(around.owner != OWN)
    if kind < 0.07:
        return around.only(np.zeros(len(around.owner), bool))
    if kind < 0.17:  # something before it: one side, seen from the sensor
        across = around.points[:, :2] @ _across(box)
        edge = rng.normal(0, 0.4) * np.hypot(box[3], box[4]) / 2
        return around.only(across * rng.choice([-1, 1]) < edge)
    if kind < 0.35:
        return around.only(rng.random(len(around.owner)) < rng.uniform(0.05, 0.7))
    return around


def _across(box: Floats) -> Floats:
    """Direction (2,) across the line of sight, in the frame of the box (7,)."""
    angle = np.arctan2(box[1], box[0]) - box[6]
    return np.array([-np.sin(angle), np.cos(angle)], np.float32)


def beside(here: Around, there: Around, other: Tracklet, size: Floats, rng: Rng) -> tuple[Around, Around]:
    """Another object of the same kind set beside this one in both scans, its own way moved in between."""
    glimpse = other.glimpses[rng.integers(len(other.glimpses))]
    points = glimpse.points[glimpse.owner == OWN].astype(np.float32)
    if not len(points):
        return here, there
    points = points * (size / other.size if rng.random() < 0.5 else 1.0)
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.choice([0.0, np.pi / 2])
    reach = 0.5 * (np.abs([np.cos(angle), np.sin(angle)]) * (size[:2] + other.size[:2])).sum()
    away = np.array([np.cos(angle), np.sin(angle), 0.0]) * reach * rng.uniform(0.9, 1.6)
    step = rng.normal(0, 0.1, 3) * [1, 1, 0.1] * size
    return _with(here, points + away), _with(there, points + away + step)


def _with(around: Around, points: Floats) -> Around:
    joined = np.concatenate([around.points, points.astype(np.float32)])
    return Around(joined, np.concatenate([around.owner, np.full(len(points), OTHER, np.uint8)]))


def legs(around: Around, label: int, size: Floats, rng: Rng) -> Around:
    """People are stiff in the simulation: below the hip, one side goes forward and the other back."""
    if label == VEHICLE:
        return around
    swing = rng.uniform(-0.3, 0.3) * size[0]
    below = np.clip(-around.points[:, 2] / size[2] * 2, 0, 1) * (around.owner == OWN)
    moved = around.points.copy()
    moved[:, 0] += swing * below * np.sign(moved[:, 1])
    return Around(moved, around.owner)
