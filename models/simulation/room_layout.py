# SPDX-License-Identifier: Apache-2.0
"""Where things stand: pieces along the walls, tables with chairs, and clutter dropped on level surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.room_catalogue import Catalogue
from perception_models.simulation.room_mesh import RoomMesh, Thing, assemble
from perception_models.simulation.room_shell import Plan

Rng = np.random.Generator
Floats = NDArray[np.floating]
DOWN = np.array([0, 0, -1], np.float32)
PLAY = 0.012  # m, how uneven a surface may be that something stands on
HEAP = 0.16  # m, spread of a heap of clutter


@dataclass
class Floor:
    """The floor of a room, filled with pieces that leave each other space."""

    plan: Plan
    things: list[Thing] = field(default_factory=list)
    _taken: list[tuple[float, float, float]] = field(default_factory=list)  # discs x, y, radius

    def put(self, piece: Thing, place: tuple[float, float], yaw: float) -> bool:
        """Put a piece where it stands free, covered by discs along its longer side; tells whether it did."""
        length, width, height = piece.size
        radius, reach = min(length, width) / 2, abs(length - width) / 2
        along = yaw if length > width else yaw + np.pi / 2
        steps = np.linspace(-reach, reach, 1 + int(np.ceil(reach / max(radius, 0.05))))
        discs = [(place[0] + s * np.cos(along), place[1] + s * np.sin(along), radius) for s in steps]
        xs, ys, _ = np.array(discs).T
        free = all(np.hypot(x - a, y - b) > 0.95 * (r + c) for x, y, r in discs for a, b, c in self._taken)
        if not free or height > self.plan.height or not self.plan.holds(xs, ys, 0.9 * radius).all():
            return False
        self._taken.extend(discs)
        self.things.append(piece.moved(place[0], place[1], 0.0, yaw))
        return True


def furnish(plan: Plan, rng: Rng, catalogue: Catalogue) -> list[Thing]:
    """Pieces along the walls and groups of a table with chairs, none of which overlap."""
    floor = Floor(plan)
    for _ in range(int(rng.integers(1, 4))):
        _group(floor, rng, catalogue)
    for _ in range(int(rng.integers(25, 60))):
        x, y, yaw, span = plan.walls[rng.integers(4)]
        piece = catalogue.wall_piece(rng)
        depth, width, _ = piece.size
        along = rng.uniform(-0.5, 0.5) * max(span - width, 0.0)
        gap = depth / 2 + rng.uniform(0.02, 0.08)
        place = (x + gap * np.cos(yaw) - along * np.sin(yaw), y + gap * np.sin(yaw) + along * np.cos(yaw))
        floor.put(piece, place, yaw if rng.random() < 0.9 else yaw + rng.normal(0, 0.2))
    return floor.things


def heap_places(things: Sequence[Thing], rng: Rng, count: int) -> Floats:
    """Middles (K, 2) of at most `count` pieces as high as a table or a shelf, on which clutter may heap up."""
    boxes = [(thing.mesh.vertices.min(axis=0), thing.mesh.vertices.max(axis=0)) for thing in things if thing.instance]
    middles = [(low + high)[:2] / 2 for low, high in boxes if low[2] < 0.05 and 0.3 < high[2] < 1.2]
    chosen = rng.permutation(len(middles))[:count]
    return np.array([middles[index] for index in chosen], np.float64).reshape(-1, 2)


def _group(floor: Floor, rng: Rng, catalogue: Catalogue) -> None:
    """A table somewhere with seats around it."""
    table, yaw = catalogue.table(rng), rng.uniform(-np.pi, np.pi)
    x, y = rng.uniform(0.8, floor.plan.length - 0.8), rng.uniform(0.8, floor.plan.width - 0.8)
    if not floor.put(table, (x, y), yaw):
        return
    for _ in range(int(rng.integers(1, 6))):
        angle = rng.uniform(-np.pi, np.pi)
        reach = 0.5 * max(table.size[:2]) + rng.uniform(0.2, 0.45)
        place = (x + reach * np.cos(angle), y + reach * np.sin(angle))
        floor.put(catalogue.seat(rng), place, angle + np.pi + rng.normal(0, 0.3))


def drop(
    plan: Plan, things: Sequence[Thing], rng: Rng, catalogue: Catalogue, count: int, heaps: Floats | None = None
) -> list[Thing]:
    """At most `count` things that lie on level surfaces of the others, found by rays cast down in one batch: anywhere,
    or close together about the places `heaps` (K, 2)."""
    mesh = assemble(things)
    places = np.column_stack([rng.uniform([0, 0], [plan.length, plan.width], (60 * count, 2)), np.zeros(60 * count)])
    if heaps is not None:
        places[:, :2] = heaps[rng.integers(len(heaps), size=len(places))] + rng.normal(0, HEAP, (len(places), 2))
    places[:, 2] = rng.uniform(0.3, plan.height - 0.05, len(places))
    hits = mesh.caster.cast(places.astype(np.float32), _all(DOWN, len(places)))
    places[:, 2] -= np.where(hits.face >= 0, hits.distance, 0)
    level = (hits.face >= 0) & (np.abs(mesh.normals[hits.face, 2]) > 0.97)
    level &= plan.holds(places[:, 0], places[:, 1], 0.05) & (places[:, 2] < 1.9)
    raised, low = np.flatnonzero(level & (places[:, 2] > 0.25)), np.flatnonzero(level & (np.abs(places[:, 2]) < 0.01))
    chosen = places[np.concatenate([raised[: 3 * count], low[: count // 2]])]
    dropped = [catalogue.clutter(rng).moved(0.0, 0.0, 0.0, rng.uniform(-np.pi, np.pi)) for _ in chosen]
    steady = _fits(mesh, dropped, chosen)
    first = 1 + max(thing.instance for thing in things)
    lying = [d.moved(*place) for d, place, fits in zip(dropped, chosen, steady, strict=True) if fits]
    return [replace(d, instance=first + n) for n, d in enumerate(_apart(lying)[:count])]


def _fits(mesh: RoomMesh, things: Sequence[Thing], places: Floats) -> NDArray[np.bool_]:
    """Which things (K,) would stand at their places (K, 3) on level ground out to their corners, with air above."""
    if not things:
        return np.zeros(0, bool)
    reach = np.array([thing.size for thing in things])
    corners = np.array([[0, 0], [-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]) * 0.7
    tops = np.repeat(places[:, None], 5, axis=1)
    tops[..., :2] += corners * reach[:, None, :2]
    tops[..., 2] += reach[:, None, 2] + 0.02
    feet = mesh.caster.cast(tops.reshape(-1, 3).astype(np.float32), _all(DOWN, 5 * len(things)))
    drop_height = feet.distance.reshape(-1, 5) - (reach[:, 2:] + 0.02)
    bottoms = (places + [0, 0, 0.01]).astype(np.float32)
    above = mesh.caster.cast(bottoms, _all(-DOWN, len(places))).distance
    return np.asarray((np.abs(drop_height) < PLAY).all(axis=1) & (above > reach[:, 2]))


def _apart(things: Sequence[Thing]) -> list[Thing]:
    """Those of the things, in order, that do not run into one kept before."""
    kept: list[tuple[Floats, Floats, Thing]] = []
    for thing in things:
        low, high = thing.mesh.vertices.min(axis=0), thing.mesh.vertices.max(axis=0)
        if all(
            (high < other_low + 0.005).any() or (low > other_high - 0.005).any() for other_low, other_high, _ in kept
        ):
            kept.append((low, high, thing))
    return [thing for _, _, thing in kept]


def _all(direction: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return np.tile(direction, (count, 1))
