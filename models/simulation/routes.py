# SPDX-License-Identifier: Apache-2.0
"""Things that move along a street over time: routes in street coordinates, platoons of vehicles, walkers and riders."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.actors import Actor, ActorModel
from perception_models.simulation.ground import Ground

Array = NDArray[np.float64]
Rng = np.random.Generator
Travel = Callable[[float], float]
_TURN_RADIUS = 6.0  # m
_TICK = 0.05  # s, over which a velocity is taken


class Route:
    """A path in street coordinates, walked by arc length."""

    def __init__(self, points: Array, start: float) -> None:
        """Take points (M, 2) of s, d and the arc length [m] at the first of them."""
        self._points = points
        self._length = start + np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])

    @property
    def span(self) -> tuple[float, float]:
        """Arc length at both ends."""
        return float(self._length[0]), float(self._length[-1])

    def at(self, length: float) -> tuple[float, float, float]:
        """Street coordinates s, d and yaw against the street at an arc length."""
        (s, d), (s2, d2), (s1, d1) = (self._point(length + o) for o in (0.0, 0.5, -0.5))
        return s, d, float(np.arctan2(d2 - d1, s2 - s1))

    def _point(self, length: float) -> tuple[float, float]:
        s, d = (float(np.interp(length, self._length, self._points[:, k])) for k in (0, 1))
        return s, d


def lane_route(ground: Ground, d: float, direction: int) -> Route:
    """The whole street at a distance d, along s (direction 1) or against it (-1); arc length is direction * s."""
    first, last = ground.line.s[[0, -1]][::direction]
    return Route(np.array([[first, d], [last, d]]), float(direction * first))


def turning_route(ground: Ground, lane: float, direction: int, gap: tuple[float, float], leaves: bool) -> Route:
    """A lane that is left into, or entered from, the side street on its near side; keeps the arc length of the lane.

    Right-hand traffic: the lane lies at d = -direction * lane.
    """
    side = -direction * lane
    middle, quarter = (gap[0] + gap[1]) / 2, (gap[1] - gap[0]) / 4
    corner = middle - direction * quarter if leaves else middle + direction * quarter
    angle = np.linspace(0, np.pi / 2, 8)
    out = np.sign(side)
    bend_s = corner + (-1 if leaves else 1) * direction * _TURN_RADIUS * (1 - np.sin(angle))
    bend_d = side + out * _TURN_RADIUS * (1 - np.cos(angle))
    start, end = ground.line.s[[0, -1]][::direction]
    if leaves:
        points = np.concatenate(
            [[[start, side]], np.stack([bend_s, bend_d], axis=1), [[corner, out * (ground.depth - 5)]]]
        )
        return Route(points, direction * start)
    points = np.concatenate(
        [[[corner, out * (ground.depth - 5)]], np.stack([bend_s, bend_d], axis=1)[::-1], [[end, side]]]
    )
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    return Route(points, direction * end - length)


@dataclass(frozen=True)
class Mover:
    """An actor on a route; `travel` gives its arc length [m] at a time [s]."""

    model: ActorModel
    route: Route
    travel: Travel
    track_id: int
    paint: float
    transmission: float

    def on_route(self, time: float) -> bool:
        """Whether it is there at that time."""
        first, last = self.route.span
        return first + self.model.size[0] < self.travel(time) < last - self.model.size[0]

    def at(self, time: float, ground: Ground) -> Actor:
        """The actor at a time [s]."""
        pose, soon = (self._pose(t, ground) for t in (time, time + _TICK))
        velocity = (soon[:2, 3] - pose[:2, 3]) / _TICK
        return Actor(
            self.model, pose, self.track_id, self.paint, self.transmission, (float(velocity[0]), float(velocity[1]))
        )

    def _pose(self, time: float, ground: Ground) -> Array:
        s, d, yaw = self.route.at(self.travel(time))
        return ground.pose(s, d, yaw, max(0.6 * self.model.size[0], 0.5))


@dataclass(frozen=True)
class Cruise:
    """Distance driven at a speed that swells and falls, never negative."""

    speed: float  # m/s
    swing: float  # share of the speed, below 1
    period: float  # s
    phase: float

    def __call__(self, time: float) -> float:
        """Distance [m] since time 0."""
        omega = 2 * np.pi / self.period
        swell = (np.cos(self.phase) - np.cos(omega * time + self.phase)) / omega
        return float(self.speed * (time + self.swing * swell))


def random_cruise(rng: Rng, speed: tuple[float, float]) -> Cruise:
    """A cruise whose mean speed [m/s] lies in the range."""
    return Cruise(rng.uniform(*speed), rng.uniform(0.1, 0.85), rng.uniform(9.0, 25.0), rng.uniform(0, 2 * np.pi))


def follow(cruise: Cruise, offset: float, sway: float, period: float) -> Travel:
    """Arc length of a vehicle that keeps its place in a platoon, up to a slow sway [m]."""
    return lambda time: offset + cruise(time) + sway * float(np.sin(2 * np.pi * time / period))
