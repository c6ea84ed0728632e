# SPDX-License-Identifier: Apache-2.0
"""Lays out a whole street: carriageway, side streets, parking, furniture and plots."""

from collections.abc import Sequence

import numpy as np

from perception_models.simulation.buildings import building
from perception_models.simulation.ground import Ground, random_line, random_waves
from perception_models.simulation.plots import PLOTS, Plot
from perception_models.simulation.scene import Placed
from perception_models.simulation.scenery import CLUTTER, bollards, fence, pole, sign, wall
from perception_models.simulation.shapes import Material
from perception_models.simulation.street import STYLES, Column, Maker, Row, Street, Style
from perception_models.simulation.vegetation import hedge, tree

Rng = np.random.Generator


def random_street(
    rng: Rng,
    first: float = -110.0,
    last: float = 110.0,
    style: Style | None = None,
    bends: tuple[float, float] = (70.0, 0.0),
    clutter: Sequence[Maker] = CLUTTER,
) -> Street:
    """A street from s = first to s = last [m]; bends are the tightest radius [m] and the least share of it to use."""
    style = style or STYLES[rng.choice(len(STYLES), p=[0.38, 0.28, 0.20, 0.14])]
    ground = _random_ground(rng, first, last, style, bends)
    roadside = rng.random(2) < style.parking
    free = ground.half_width - (2.1 if roadside.any() and ground.half_width > 4.6 else 0.0)
    street = Street(style, ground, lane=max(free / 2, 1.3), clutter=clutter)
    street.things.append(Placed(ground.mesh(), tint=rng.uniform(0.5, 1.4)))
    for side, parked in zip((-1, 1), roadside, strict=True):
        for s0, s1 in _blocks(ground, first, last):
            _build_block(street, side, s0, s1, bool(parked), rng)
        for gap in ground.gaps:
            _line_side_street(street, side, gap, rng)
    return street


def _random_ground(rng: Rng, first: float, last: float, style: Style, bends: tuple[float, float]) -> Ground:
    slope, relief = random_waves(rng, rng.uniform(0.0, 0.05), style.uneven)
    return Ground(
        line=random_line(rng, first, last, *bends),
        half_width=rng.uniform(*style.half_width),
        kerb=style.kerb * rng.uniform(0.5, 1.5),
        pavement=rng.uniform(*style.pavement),
        gaps=_gaps(rng, first, last, style.junction_every),
        depth=60.0,
        slope=slope,
        relief=relief,
        cross_fall=rng.uniform(-0.015, 0.015),
        soft=Material.GRASS if style.name != "city" and rng.random() < 0.85 else Material.CONCRETE,
    )


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
    if ground.pavement > 1.0:
        _furnish(street, side, s0, s1, back, rng)
    s = s0 + 1.0
    names, shares = zip(*street.style.plots, strict=True)
    while s < s1 - 8:
        length = min(rng.uniform(9, 30), s1 - 1.0 - s)
        PLOTS[rng.choice(names, p=shares)](Plot(street, side, s, length, back + 0.3, rng))
        s += length


def _furnish(street: Street, side: int, s0: float, s1: float, back: float, rng: Rng) -> None:
    """Trees, lamp posts, signs and other things along the pavement, and often posts along the kerb."""
    if rng.random() < 0.4:
        kerb = side * (street.ground.half_width + rng.uniform(0.2, 0.5))
        for s in np.arange(s0 + 2, s1 - 12, rng.uniform(8, 16)):
            street.put(bollards(rng), s, kerb, 0.0, rng)
    for s in np.arange(s0 + 2, s1 - 2, rng.uniform(8, 30)):
        makers = street.clutter if rng.random() < 0.3 else (tree, pole, sign)
        d = back - rng.uniform(0.2, 0.5) * street.ground.pavement
        street.put(makers[int(rng.integers(len(makers)))](rng), s, side * d, rng.uniform(-np.pi, np.pi), rng)


def _line_side_street(street: Street, side: int, gap: tuple[float, float], rng: Rng) -> None:
    """What stands along a side street, on both of its sides: walls, hedges, facades, clutter, parked vehicles."""
    ground = street.ground
    near = ground.half_width + ground.pavement + rng.uniform(6.0, 14.0)
    for edge, off in ((gap[0], -1), (gap[1], 1)):
        d = near
        while d < ground.depth - 12:
            length = rng.uniform(6.0, 14.0)
            kind, away = rng.random(), 0.0 if off > 0 else np.pi
            if kind < 0.55:
                make = (building, building, hedge, wall, fence)[int(rng.integers(5))]
                out = edge + off * rng.uniform(1.0, 5.0)
                street.put(make(rng, length), out, side * (d + length / 2), away - np.pi / 2, rng)
            elif kind < 0.85:
                thing = street.clutter[int(rng.integers(len(street.clutter)))](rng)
                street.put(thing, edge + off * rng.uniform(0.5, 4.0), side * (d + length / 2), away, rng)
            d += length
        if rng.random() < 0.5 * street.style.parking and gap[1] - gap[0] > 6:
            street.columns.append(Column(edge - off * 1.1, side * near, side * (ground.depth - 15)))


def _roadside_parking(street: Street, side: int, s0: float, s1: float, back: float, rng: Rng) -> float:
    """Parallel on the carriageway or half on the pavement, or side by side in bays; returns where the plots start."""
    ground = street.ground
    kind = rng.random()
    if kind < 0.68:
        d = ground.half_width - rng.uniform(0.95, 1.1) + (rng.uniform(0.6, 1.4) if ground.half_width < 4.0 else 0.0)
        street.rows.append(Row(s0 + 4, s1 - 4, side * d, 0.0, 0.0))
        return back
    slant = np.pi / 2 if kind < 0.85 else rng.choice([-1, 1]) * rng.uniform(0.7, 1.2)
    street.rows.append(
        Row(s0 + 4, s1 - 4, side * (ground.half_width + 2.7), side * slant, rng.uniform(2.35, 2.8) / abs(np.sin(slant)))
    )
    return back + 4.5
