# SPDX-License-Identifier: Apache-2.0
"""Paths of a camera through a room: smooth, free of collisions, looking at things nearby."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from perception_models.geometry import se3
from perception_models.simulation.rooms import Room

Matrix = NDArray[np.float64]
Rng = np.random.Generator

CLEARANCE = 0.3  # m, between the camera and anything
SPEED = (0.15, 0.7)  # m/s
LOOK = (0.9, 3.5)  # m, how far away the things are that the camera looks at
ATTEMPTS = 60


def sample_path(room: Room, rng: Rng, frames: int, rate: float = 30.0, handheld: bool = True) -> Matrix:
    """Poses (F, 4, 4) optical frame -> world of a hand-held camera, or of one on a robot: level, at one height.

    Raises RuntimeError where the room leaves no space to move.
    """
    for _ in range(ATTEMPTS):
        places, targets = _way(room, rng, frames / rate, handheld)
        times = np.linspace(0, 1, frames)
        position = CubicSpline(np.linspace(0, 1, len(places)), places)(times)
        gaze = CubicSpline(np.linspace(0, 1, len(targets)), targets)(times) - position
        if handheld:
            position += _tremor(rng, frames, rate, 0.006)
            gaze += np.linalg.norm(gaze, axis=1, keepdims=True) * _tremor(rng, frames, rate, 0.012)
        if _is_free(room, position):
            roll = gaussian_filter1d(rng.normal(0, 1, frames), 0.7 * rate) * (0.5 if handheld else 0.0)
            return np.stack([_look(*each) for each in zip(position, gaze, roll, strict=True)])
    raise RuntimeError("no free path through this room; sample another room")


def _way(room: Room, rng: Rng, seconds: float, handheld: bool) -> tuple[Matrix, Matrix]:
    """Places (K, 3) to pass and points (K, 3) to look at."""
    count = max(4, int(np.ceil(seconds / 1.5)) + 1)
    step = rng.uniform(*SPEED) * seconds / (count - 1)
    height = rng.uniform(1.0, 1.8) if handheld else rng.uniform(0.3, 1.2)
    place, heading = _start(room, rng, height), rng.uniform(-np.pi, np.pi)
    facing = rng.uniform(-np.pi, np.pi)
    places, targets = [], []
    for _ in range(count):
        places.append(place)
        targets.append(_target(room, rng, place, facing))
        facing += rng.normal(0.0, 0.35)
        place, heading = _next(room, rng, place, heading + rng.normal(0, 0.5), step, 0.3 * step * handheld)
    return np.array(places), np.array(targets)


def _next(room: Room, rng: Rng, place: Matrix, heading: float, step: float, climb: float) -> tuple[Matrix, float]:
    """The next place and heading: as much straight ahead as space allows; the same place where there is none."""
    turns = np.array([0, 0.4, -0.4, 0.9, -0.9, 1.5, -1.5, 2.2, -2.2, np.pi]) + heading
    ahead = np.column_stack([np.cos(turns), np.sin(turns), rng.normal(0, climb / step, len(turns))])
    places = place + step * ahead
    places[:, 2] = np.clip(places[:, 2], 0.3, 2.0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    free = room.cast(np.broadcast_to(place, ahead.shape), ahead).distance > step + CLEARANCE
    free &= room.plan.holds(places[:, 0], places[:, 1], CLEARANCE) & (_space(room, places) > CLEARANCE)
    if not free.any():
        return place, heading + np.pi / 2
    chosen = int(np.argmax(free))
    return places[chosen], float(turns[chosen])


def _start(room: Room, rng: Rng, height: float) -> Matrix:
    """A place with space around it, as far as a few tries show."""
    places = np.column_stack([rng.uniform([0, 0], [room.plan.length, room.plan.width], (30, 2)), np.full(30, height)])
    inside = places[room.plan.holds(places[:, 0], places[:, 1], CLEARANCE)]
    space = _space(room, inside)
    good = inside[space > min(0.5, float(space.max()))] if (space > 0.5).any() else inside[[int(space.argmax())]]
    chosen: Matrix = good[rng.integers(len(good))]
    return chosen


def _target(room: Room, rng: Rng, place: Matrix, facing: float) -> Matrix:
    """A point on something that stands about where the camera faces, at a distance that its depth sensor likes."""
    yaw, pitch = facing + rng.normal(0, 0.4, 24), rng.normal(-0.35, 0.3, 24)
    directions = np.column_stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    hits = room.cast(np.broadcast_to(place, directions.shape), directions)
    near = (hits.distance > LOOK[0]) & (hits.distance < LOOK[1])
    is_thing = near & (room.mesh.instances[hits.face] > 0)
    good = np.flatnonzero(is_thing if is_thing.any() and rng.random() < 0.8 else near)
    index = good[0] if len(good) else int(hits.distance.argmax())
    target: Matrix = place + directions[index] * float(np.clip(hits.distance[index], *LOOK))
    return target


def _tremor(rng: Rng, frames: int, rate: float, size: float) -> Matrix:
    """A hand's unrest (F, 3): slow sway and fast shake."""
    sway = gaussian_filter1d(rng.normal(0, 1, (frames, 3)), 0.25 * rate, axis=0) * np.sqrt(rate)
    shake = gaussian_filter1d(rng.normal(0, 1, (frames, 3)), 0.05 * rate, axis=0)
    tremor: Matrix = size * (0.5 * sway + 0.3 * shake)
    return tremor


def _space(room: Room, places: Matrix) -> Matrix:
    """Distance [m] from places (P, 3) to the nearest thing in 24 level and slanted directions."""
    angles = np.arange(8) * np.pi / 4
    around = np.concatenate(
        [np.column_stack([np.cos(angles), np.sin(angles), np.full(8, z)]) for z in (-0.6, 0.0, 0.6)]
    )
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    origins, directions = np.repeat(places, len(around), axis=0), np.tile(around, (len(places), 1))
    distances = room.cast(origins, directions).distance.reshape(len(places), -1)
    return np.asarray(distances.min(axis=1), np.float64)


def _is_free(room: Room, position: Matrix) -> bool:
    inside = room.plan.holds(position[:, 0], position[:, 1], 0.15).all()
    return bool(inside and (_space(room, position[:: max(1, len(position) // 40)]) > 0.5 * CLEARANCE).all())


def _look(position: Matrix, gaze: Matrix, roll: float) -> Matrix:
    """Pose at a position with the optical axis along `gaze` and the image upright but for `roll` [rad]."""
    forward = gaze / np.linalg.norm(gaze)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    upright = np.column_stack([right, np.cross(forward, right), forward])
    c, s = np.cos(roll), np.sin(roll)
    return se3.make(upright @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), position)
