# SPDX-License-Identifier: Apache-2.0
"""A street: its ground, what stands beside it, and where vehicles may park and drive."""

from dataclasses import dataclass, field

import numpy as np

from perception_models.simulation import scenery
from perception_models.simulation.buildings import building
from perception_models.simulation.ground import Ground, random_line, random_waves
from perception_models.simulation.scene import Placed
from perception_models.simulation.shapes import Material, Mesh

Rng = np.random.Generator


@dataclass(frozen=True)
class Row:
    """A row of parking places from s0 to s1 at d: parallel (pitch 0) or side by side at a pitch [m]."""

    s0: float
    s1: float
    d: float
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Style:
    """What kind of street."""

    name: str
    half_width: tuple[float, float]
    pavement: tuple[float, float]
    kerb: float
    uneven: float
    junction_every: float
    parking: float  # chance of parked cars along a side
    plots: tuple[tuple[str, float], ...]


STYLES = (
    Style("suburb", (2.8, 4.6), (0.8, 2.6), 0.10, 0.06, 70, 0.75, (("house", 0.62), ("green", 0.18), ("lot", 0.08), ("works", 0.12))),
    Style("city", (3.5, 7.5), (1.8, 5.0), 0.12, 0.03, 60, 0.85, (("row", 0.68), ("green", 0.10), ("lot", 0.12), ("works", 0.10))),
    Style("campus", (3.0, 5.5), (1.0, 4.0), 0.08, 0.08, 45, 0.45, (("house", 0.15), ("row", 0.2), ("green", 0.3), ("lot", 0.25), ("works", 0.1))),
    Style("open", (3.0, 8.0), (0.3, 1.5), 0.0, 0.12, 110, 0.12, (("field", 0.6), ("green", 0.22), ("house", 0.08), ("works", 0.1))),
)


@dataclass
class Street:
    """Ground, static things, parking rows and the circles (x, y, r) that are taken by static things."""

    style: Style
    ground: Ground
    lane: float  # distance of the traffic lanes from the centre line, m
    things: list[Placed] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def put(self, mesh: Mesh, s: float, d: float, yaw: float, rng: Rng) -> None:
        """Stand a mesh at street coordinates, on the ground."""
        pose = self.ground.pose(s, d, yaw)
        pose[:3, :3] = _upright(pose[:3, :3])
        pose[2, 3] -= 0.03
        self.things.append(Placed(mesh.transformed(pose), paint=rng.uniform(0.05, 0.6), transmission=rng.uniform(0.2, 0.9), tint=rng.uniform(0.4, 1.5)))
        low = mesh.vertices[mesh.vertices[:, 2] < 2.0]
        if len(low):
            self.taken.extend(_circles(low, pose))


def _upright(rotation: np.ndarray) -> np.ndarray:
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    return np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])


def _circles(vertices: np.ndarray, pose: np.ndarray) -> list[tuple[float, float, float]]:
    """Circles that cover the footprint, one for each 1.5 m of its length."""
    low, high = vertices[:, :2].min(axis=0), vertices[:, :2].max(axis=0)
    width = min(float(high[1] - low[1]), 3.0)
    count = max(1, int((high[0] - low[0]) / 1.5))
    xs = low[0] + (np.arange(count) + 0.5) * (high[0] - low[0]) / count
    middle = np.stack([xs, np.full(count, min((low[1] + high[1]) / 2, low[1] + width / 2)), np.zeros(count)], axis=1) @ pose[:3, :3].T + pose[:3, 3]
    radius = 0.5 * float(np.hypot(width, (high[0] - low[0]) / count))
    return [(float(x), float(y), radius) for x, y, _ in middle]


def random_street(rng: Rng, first: float = -110.0, last: float = 110.0, style: Style | None = None, tightest: float = 70.0) -> Street:
    """A street from s = first to s = last [m]."""
    style = style or STYLES[rng.choice(len(STYLES), p=[0.38, 0.28, 0.20, 0.14])]
    slope, relief = random_waves(rng, rng.uniform(0.0, 0.05), style.uneven)
    half_width = rng.uniform(*style.half_width)
    soft = Material.GRASS if style.name != "city" and rng.random() < 0.85 else Material.CONCRETE
    ground = Ground(
        random_line(rng, first, last, tightest), half_width, style.kerb * rng.uniform(0.5, 1.5), rng.uniform(*style.pavement),
        _gaps(rng, first, last, style.junction_every), 60.0, slope, relief, rng.uniform(-0.015, 0.015), soft,
    )
    roadside = rng.random(2) < style.parking
    free = half_width - (2.1 if roadside.any() and half_width > 4.6 else 0.0)
    street = Street(style, ground, lane=max(free / 2, 1.3))
    street.things.append(Placed(ground.mesh(), tint=rng.uniform(0.5, 1.4)))
    for side, parked in zip((-1, 1), roadside, strict=True):
        for s0, s1 in _blocks(ground, first, last):
            _build_block(street, side, s0, s1, bool(parked), rng)
    return street


def _gaps(rng: Rng, first: float, last: float, spacing: float) -> tuple[tuple[float, float], ...]:
    """Side streets, 5 to 12 m wide."""
    gaps, s = [], first + rng.uniform(20, spacing)
    while s < last - 20:
        width = rng.uniform(5.0, 12.0)
        gaps.append((s, s + width))
        s += width + rng.uniform(0.5, 1.6) * spacing
    return tuple(gaps)


def _blocks(ground: Ground, first: float, last: float) -> list[tuple[float, float]]:
    edges = [first, *(e for gap in ground.gaps for e in gap), last]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _build_block(street: Street, side: int, s0: float, s1: float, parked: bool, rng: Rng) -> None:
    """Parking along the kerb, furniture on the pavement, then plots behind it."""
    ground = street.ground
    back = ground.half_width + ground.pavement
    if parked and s1 - s0 > 14:
        back = _roadside_parking(street, side, s0, s1, back, rng)
    for s in np.arange(s0 + 2, s1 - 2, rng.uniform(8, 30)):
        make = scenery.CLUTTER[rng.integers(len(scenery.CLUTTER))] if rng.random() < 0.3 else rng.choice([scenery.tree, scenery.pole, scenery.sign])
        if ground.pavement > 1.0:
            street.put(make(rng), s, side * (back - rng.uniform(0.2, 0.5) * ground.pavement), rng.uniform(-np.pi, np.pi), rng)
    s = s0 + 1.0
    names, shares = zip(*street.style.plots, strict=True)
    while s < s1 - 8:
        length = min(rng.uniform(9, 30), s1 - 1.0 - s)
        _PLOTS[rng.choice(names, p=shares)](street, side, s, length, back + 0.3, rng)
        s += length


def _roadside_parking(street: Street, side: int, s0: float, s1: float, back: float, rng: Rng) -> float:
    """Parallel on the carriageway or half on the pavement, or side by side in bays; returns where the plots start."""
    ground = street.ground
    kind = rng.random()
    if kind < 0.68:
        d = ground.half_width - rng.uniform(0.95, 1.1) + (rng.uniform(0.6, 1.4) if ground.half_width < 4.0 else 0.0)
        street.rows.append(Row(s0 + 4, s1 - 4, side * d, 0.0, 0.0))
        return back
    slant = np.pi / 2 if kind < 0.85 else rng.choice([-1, 1]) * rng.uniform(0.7, 1.2)
    street.rows.append(Row(s0 + 4, s1 - 4, side * (ground.half_width + 2.7), side * slant, rng.uniform(2.35, 2.8) / abs(np.sin(slant))))
    return back + 4.5


def _house(street: Street, side: int, s: float, length: float, back: float, rng: Rng) -> None:
    """Detached house behind a hedge, fence or wall, with a driveway."""
    front, drive = rng.uniform(2.0, 9.0), rng.random() < 0.7
    yaw = 0.0 if side > 0 else np.pi
    width = min(rng.uniform(7, 14), length - 4.5)
    if width > 4:
        street.put(building(rng, width), s + (3.6 if drive else 1.0) + width / 2, side * (back + front), yaw, rng)
    border = rng.random()
    start = s + (3.4 if drive else 0.3)
    if border < 0.75:
        make = scenery.hedge if border < 0.4 else scenery.fence if border < 0.55 else scenery.wall
        street.put(make(rng, s + length - start), (start + s + length) / 2, side * (back + rng.uniform(0.1, 0.5)), 0.0, rng)
    if drive:
        reach = rng.uniform(2.6, 4.5)
        street.rows.append(Row(s + 0.7, s + 2.9, side * (back + reach), side * np.pi / 2, 2.6))
    for _ in range(rng.integers(0, 5)):
        make = scenery.CLUTTER[rng.integers(len(scenery.CLUTTER))]
        street.put(make(rng), rng.uniform(start, s + length), side * (back + rng.uniform(0.9, front)), rng.uniform(-np.pi, np.pi), rng)


def _row(street: Street, side: int, s: float, length: float, back: float, rng: Rng) -> None:
    """Terrace: a facade straight behind the pavement, clutter before it."""
    street.put(building(rng, length - rng.uniform(0.0, 2.0) * (rng.random() < 0.3)), s + length / 2, side * (back + rng.uniform(0.0, 0.6)), 0.0 if side > 0 else np.pi, rng)
    for _ in range(rng.integers(0, 3)):
        make = scenery.CLUTTER[rng.integers(len(scenery.CLUTTER))]
        street.put(make(rng), rng.uniform(s, s + length), side * (back - rng.uniform(0.5, 1.0)), rng.choice([0, np.pi / 2]), rng)


def _green(street: Street, side: int, s: float, length: float, back: float, rng: Rng) -> None:
    """Trees and shrubs, sometimes behind a hedge."""
    if rng.random() < 0.3:
        street.put(scenery.hedge(rng, length - 1), s + length / 2, side * (back + 0.5), 0.0, rng)
    for _ in range(int(length * rng.uniform(0.2, 0.7))):
        make = scenery.GREENERY[rng.integers(len(scenery.GREENERY))]
        street.put(make(rng), s + rng.uniform(0, length), side * (back + rng.uniform(0.5, 1.0) * rng.uniform(1, 28)), rng.uniform(-np.pi, np.pi), rng)


def _lot(street: Street, side: int, s: float, length: float, back: float, rng: Rng) -> None:
    """Car park: rows of places side by side."""
    slant, d = rng.choice([1.0, 1.0, 0.8]) * np.pi / 2, back + 3.5
    for _ in range(rng.integers(1, 4)):
        street.rows.append(Row(s + 1.5, s + length - 1.5, side * d, rng.choice([-1, 1]) * slant, rng.uniform(2.35, 2.9)))
        d += rng.choice([5.2, 10.5])
    street.put(building(rng, length), s + length / 2, side * (d + 1.0), 0.0 if side > 0 else np.pi, rng)


def _works(street: Street, side: int, s: float, length: float, back: float, rng: Rng) -> None:
    """Yard of hard-to-tell things."""
    for _ in range(int(length * rng.uniform(0.25, 0.6))):
        make = scenery.CLUTTER[rng.integers(len(scenery.CLUTTER))]
        street.put(make(rng), s + rng.uniform(0, length), side * (back + rng.uniform(0.6, 16)), rng.uniform(-np.pi, np.pi), rng)
    if rng.random() < 0.5:
        street.put(scenery.fence(rng, length), s + length / 2, side * (back + 0.2), 0.0, rng)


def _field(street: Street, side: int, s: float, length: float, back: float, rng: Rng) -> None:
    """Open ground with a few trees, a fence or guard rail."""
    if rng.random() < 0.4:
        street.put(scenery.fence(rng, length), s + length / 2, side * (back + rng.uniform(0.0, 1.5)), 0.0, rng)
    for _ in range(rng.integers(0, 4)):
        make = scenery.GREENERY[rng.integers(len(scenery.GREENERY))]
        street.put(make(rng), s + rng.uniform(0, length), side * (back + rng.uniform(1, 35)), 0.0, rng)


_PLOTS = {"house": _house, "row": _row, "green": _green, "lot": _lot, "works": _works, "field": _field}
