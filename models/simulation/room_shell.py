# SPDX-License-Identifier: Apache-2.0
"""Walls, floor and ceiling of a room, with openings, windows, pictures and curtains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_models.simulation.furniture import slab
from perception_models.simulation.shapes import Material, Mesh, surface

Rng = np.random.Generator
WALL = 0.12  # m, thickness
SIDES = ("south", "north", "west", "east")


@dataclass(frozen=True)
class Plan:
    """A room from (0, 0) to (length, width) [m]; an L where `notch` (2,) cuts a corner off at (length, width)."""

    length: float
    width: float
    height: float
    notch: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def sample(rng: Rng) -> Plan:
        """A room of usual size."""
        length, width = rng.uniform(3.0, 8.0), rng.uniform(3.0, 6.0)
        notch = (
            (rng.uniform(0.25, 0.45) * length, rng.uniform(0.25, 0.45) * width) if rng.random() < 0.3 else (0.0, 0.0)
        )
        return Plan(length, width, rng.uniform(2.3, 3.0), notch)

    def holds(self, x: np.ndarray, y: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Whether places are inside by `margin` [m]."""
        inside = (x > margin) & (y > margin) & (x < self.length - margin) & (y < self.width - margin)
        cut = (x > self.length - self.notch[0] - margin) & (y > self.width - self.notch[1] - margin)
        return np.asarray(inside & ~(cut & (self.notch[0] > 0)))

    @property
    def walls(self) -> list[tuple[float, float, float, float]]:
        """Walls as x, y of the middle, yaw of the inward normal, and length."""
        length, width = self.length, self.width
        south, north = (length / 2, 0.0, np.pi / 2, length), (length / 2, width, -np.pi / 2, length)
        return [south, north, (0.0, width / 2, 0.0, width), (length, width / 2, np.pi, width)]


def shell(plan: Plan, rng: Rng) -> tuple[list[Mesh], list[Mesh]]:
    """The building itself, and what hangs on its walls."""
    length, width, height = plan.length, plan.width, plan.height
    building = [
        slab((-4, length + 4), (-4, width + 4), (-0.1, 0.0), Material.ASPHALT),
        slab((-WALL, length + WALL), (-WALL, width + WALL), (height, height + 0.1), Material.WALL),
    ]
    if plan.notch[0] > 0:
        block = slab((length - plan.notch[0], length), (width - plan.notch[1], width), (0, height), Material.CONCRETE)
        building.append(block)
    hangings: list[Mesh] = []
    for number, (x, y, yaw, span) in enumerate(plan.walls):
        wall, things = _wall(span, height, rng, has_door=number == 0)
        building += [part.moved(x, y, 0.0, yaw) for part in wall]
        reach = span / 2 - (plan.notch[number % 2] if number in (1, 3) else 0)  # the notch hides what hangs there
        hangings += [part.moved(x, y, 0.0, yaw) for place, part in things if abs(place) < reach - 0.8]
    return building, hangings


def _wall(span: float, height: float, rng: Rng, has_door: bool) -> tuple[list[Mesh], list[tuple[float, Mesh]]]:
    """A wall along y with its face at x = 0, looking along +x; hangings come with their place along the wall."""
    holes, hangings = [], []
    if has_door and rng.random() < 0.7:
        holes.append((rng.uniform(-0.3, 0.3) * span, rng.uniform(0.8, 1.4), 0.0, 2.05))
    elif rng.random() < 0.6:
        wide = min(rng.uniform(0.8, 2.4), 0.6 * span)
        holes.append((rng.uniform(-0.2, 0.2) * span, wide, rng.uniform(0.5, 1.1), rng.uniform(1.8, 2.2)))
    parts = _around(holes, span, height)
    for middle, wide, low, high in holes:
        if low > 0:
            parts += _window(middle, wide, low, high, rng)
            if rng.random() < 0.5:
                hangings += [(middle, _curtain(middle + side * wide / 2, 0.1, high + 0.15, rng)) for side in (-1, 1)]
    parts.append(slab((0, 0.015), (-span / 2, span / 2), (0, 0.08), Material.PAINT))
    for _ in range(rng.integers(0, 4)):
        place = rng.uniform(-0.45, 0.45) * span
        if all(abs(place - middle) > wide / 2 + 0.4 for middle, wide, _, _ in holes):
            hangings.append((place, _picture(place, rng)))
    return parts, hangings


def _around(holes: list[tuple[float, float, float, float]], span: float, height: float) -> list[Mesh]:
    """The wall's boards around at most one hole."""
    back, y = (-WALL, 0.0), span / 2 + WALL
    if not holes:
        return [slab(back, (-y, y), (0, height), Material.WALL)]
    middle, wide, low, high = holes[0]
    left, right = middle - wide / 2, middle + wide / 2
    parts = [slab(back, (-y, left), (0, height), Material.WALL), slab(back, (right, y), (0, height), Material.WALL)]
    parts.append(slab(back, (left, right), (high, height), Material.WALL))
    if low > 0:
        parts.append(slab(back, (left, right), (0, low), Material.WALL))
    else:
        parts.append(slab((-3.0, -2.9), (middle - 2, middle + 2), (0, height), Material.CONCRETE))  # the room behind
    return parts


def _window(middle: float, wide: float, low: float, high: float, rng: Rng) -> list[Mesh]:
    frame, left, right = 0.05, middle - wide / 2, middle + wide / 2
    depth = (-0.1, -0.05)
    parts = [slab((-0.08, -0.075), (left, right), (low, high), Material.GLASS)]
    parts += [slab(depth, (left, right), (z, z + frame), Material.PAINT) for z in (low, high - frame)]
    bars = np.linspace(left, right - frame, int(rng.integers(2, 5)))
    parts += [slab(depth, (bar, bar + frame), (low, high), Material.PAINT) for bar in bars]
    parts.append(slab((-0.05, 0.12), (left - 0.1, right + 0.1), (low - 0.04, low), Material.PAINT))
    if rng.random() < 0.5:
        parts.append(slab((0.04, 0.12), (left, right), (0.1, max(0.2, low - 0.15)), Material.METAL))  # a radiator
    return parts


def _curtain(place: float, low: float, high: float, rng: Rng) -> Mesh:
    along, up = np.linspace(-0.3, 0.3, 14), np.linspace(low, high, 4)
    fold = 0.08 + 0.04 * np.sin(np.arange(14) * 1.7 + rng.uniform(0, 6)) + rng.normal(0, 0.006, (4, 14))
    points = np.stack(np.broadcast_arrays(fold, place + along[None], up[:, None]), axis=-1)
    return surface(points, Material.CLOTH)


def _picture(place: float, rng: Rng) -> Mesh:
    wide, high, middle = rng.uniform(0.2, 1.2), rng.uniform(0.2, 0.9), rng.uniform(1.2, 1.8)
    material = Material.RETRO if rng.random() < 0.8 else Material.GLASS
    thick = rng.uniform(0.005, 0.04)
    return slab((0.0, thick), (place - wide / 2, place + wide / 2), (middle - high / 2, middle + high / 2), material)
