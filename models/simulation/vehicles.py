# SPDX-License-Identifier: Apache-2.0
"""Road vehicles: lofted bodies with arches, tumblehome, glass and an interior.

Sizes follow the makers' figures for European cars of the 1990s to today, without mirrors. Shares follow the mix on
European roads: a third are minis and superminis. Means come near those published for KITTI's cars (3.9 x 1.6 x 1.56 m)
and vans (5.0 x 1.9 x 2.2 m) in detectors' settings.
"""

from dataclasses import dataclass

import numpy as np

from perception_models.classes import VEHICLE
from perception_models.simulation.actors import ActorModel
from perception_models.simulation.bodywork import CarForm, car, wheels
from perception_models.simulation.shapes import Material, Mesh, box, merge

Rng = np.random.Generator
Span = tuple[float, float]


@dataclass(frozen=True)
class _Kind:
    """Statistics of one body style: (mean, spread, low, high) in metres for the size, then ranges of the form."""

    share: float
    length: tuple[float, float, float, float]
    width: tuple[float, float, float, float]
    height: tuple[float, float, float, float]
    hood: Span  # length of the bonnet / length
    screen: Span  # horizontal run of the windscreen / length
    roof_end: Span  # where the roof ends / length, from the front
    tail: Span  # where the rear window meets the belt / length, from the front
    nose: Span  # height of the bonnet's front edge / height
    belt: Span  # height of the window line / height


_KINDS: dict[str, _Kind] = {
    "supermini": _Kind(
        0.3,
        (3.74, 0.18, 3.30, 4.02),
        (1.63, 0.04, 1.50, 1.74),
        (1.46, 0.04, 1.37, 1.58),
        (0.16, 0.24),
        (0.13, 0.20),
        (0.84, 0.93),
        (0.95, 0.985),
        (0.44, 0.53),
        (0.59, 0.67),
    ),
    "hatchback": _Kind(
        0.23,
        (4.14, 0.14, 3.90, 4.40),
        (1.73, 0.04, 1.63, 1.83),
        (1.46, 0.04, 1.38, 1.57),
        (0.18, 0.25),
        (0.13, 0.20),
        (0.84, 0.93),
        (0.95, 0.985),
        (0.44, 0.52),
        (0.60, 0.67),
    ),
    "saloon": _Kind(
        0.09,
        (4.56, 0.18, 4.15, 5.10),
        (1.76, 0.05, 1.65, 1.90),
        (1.43, 0.03, 1.37, 1.52),
        (0.24, 0.29),
        (0.13, 0.17),
        (0.68, 0.77),
        (0.82, 0.89),
        (0.44, 0.51),
        (0.60, 0.67),
    ),
    "estate": _Kind(
        0.09,
        (4.55, 0.17, 4.15, 5.00),
        (1.75, 0.05, 1.65, 1.90),
        (1.47, 0.04, 1.39, 1.58),
        (0.22, 0.28),
        (0.13, 0.17),
        (0.86, 0.94),
        (0.95, 0.985),
        (0.43, 0.50),
        (0.59, 0.65),
    ),
    "suv": _Kind(
        0.09,
        (4.38, 0.25, 3.75, 5.05),
        (1.80, 0.06, 1.66, 2.00),
        (1.67, 0.08, 1.52, 1.90),
        (0.20, 0.27),
        (0.11, 0.16),
        (0.87, 0.95),
        (0.95, 0.985),
        (0.50, 0.60),
        (0.61, 0.68),
    ),
    "mpv": _Kind(
        0.08,
        (4.32, 0.22, 3.85, 4.85),
        (1.77, 0.05, 1.65, 1.92),
        (1.66, 0.06, 1.55, 1.85),
        (0.14, 0.20),
        (0.15, 0.22),
        (0.90, 0.96),
        (0.965, 0.99),
        (0.44, 0.52),
        (0.57, 0.64),
    ),
    "van": _Kind(
        0.11,
        (4.98, 0.50, 4.10, 6.20),
        (1.87, 0.08, 1.68, 2.06),
        (2.10, 0.23, 1.76, 2.80),
        (0.09, 0.18),
        (0.10, 0.16),
        (0.965, 0.985),
        (0.985, 0.995),
        (0.42, 0.52),
        (0.52, 0.60),
    ),
    "pickup": _Kind(
        0.02,
        (5.25, 0.15, 4.90, 5.60),
        (1.86, 0.05, 1.75, 2.00),
        (1.79, 0.05, 1.68, 1.90),
        (0.22, 0.26),
        (0.09, 0.13),
        (0.56, 0.64),
        (0.60, 0.67),
        (0.55, 0.62),
        (0.60, 0.66),
    ),
}
_TRUCK_SHARE, _BUS_SHARE = 0.03, 0.02


def _clipped(rng: Rng, spread: tuple[float, float, float, float]) -> float:
    mean, deviation, low, high = spread
    return float(np.clip(rng.normal(mean, deviation), low, high))


def random_vehicle(rng: Rng) -> ActorModel:
    """One vehicle drawn from the mix of kinds on European roads."""
    names = [*_KINDS, "truck", "bus"]
    shares = np.array([*(k.share for k in _KINDS.values()), _TRUCK_SHARE, _BUS_SHARE])
    return make_vehicle(str(rng.choice(names, p=shares / shares.sum())), rng)


def make_vehicle(kind: str, rng: Rng) -> ActorModel:
    """A vehicle of the given kind with random form and size."""
    if kind == "truck":
        return _truck(rng)
    if kind == "bus":
        return _bus(rng)
    return _passenger(kind, rng)


def _passenger(kind: str, rng: Rng) -> ActorModel:
    style = _KINDS[kind]
    length, width, height = (_clipped(rng, s) for s in (style.length, style.width, style.height))
    form = CarForm(
        length,
        width,
        height,
        hood=rng.uniform(*style.hood),
        screen=rng.uniform(*style.screen),
        roof_end=rng.uniform(*style.roof_end),
        tail=rng.uniform(*style.tail),
        nose=rng.uniform(*style.nose),
        belt=rng.uniform(*style.belt),
        wheel_radius=float(np.clip(0.125 * length * rng.uniform(0.55, 0.66), 0.28, 0.40)),
        clearance=rng.uniform(0.14, 0.22) + 0.06 * (kind in ("suv", "pickup", "van")),
        tumblehome=rng.uniform(0.04, 0.10) if kind == "van" else rng.uniform(0.12, 0.24),
        glazed_to=rng.uniform(0.28, 0.36) if kind == "van" and rng.random() < 0.55 else 1.0,
        open_bed=kind == "pickup",
    )
    return ActorModel(VEHICLE, kind, car(form, rng), (length, width, height))


def _heavy_wheels(axles: list[float], width: float) -> list[Mesh]:
    return wheels(axles, width / 2 - 0.02, width / 2 - 0.30, 0.48, 12)


def _truck(rng: Rng) -> ActorModel:
    """Cab, chassis and a cargo box, tank or open platform."""
    length, width, height = rng.uniform(6.0, 12.0), rng.uniform(2.2, 2.55), rng.uniform(2.6, 3.9)
    cab, cab_height = rng.uniform(1.6, 2.3), min(height, rng.uniform(2.3, 3.2))
    front = length / 2
    load = front - cab - rng.uniform(0.1, 0.5)
    parts = [
        box([cab, width * 0.97, 0.9], [front - cab / 2, 0, 0.85], Material.PAINT),
        box([cab - 0.1, width * 0.95, 0.25], [front - cab / 2 - 0.05, 0, cab_height - 0.12], Material.PAINT),
        box([0.1, width * 0.95, cab_height - 1.3], [front - cab + 0.05, 0, (cab_height + 1.3) / 2], Material.PAINT),
        box([0.05, width * 0.9, cab_height - 1.5], [front - 0.08, 0, (cab_height + 1.1) / 2], Material.GLASS),
        box(
            [cab * 0.5, width * 0.94, cab_height - 1.5],
            [front - 0.1 - cab * 0.25, 0, (cab_height + 1.1) / 2],
            Material.GLASS,
        ),
        box(
            [cab * 0.4, width * 0.94, cab_height - 1.3], [front - cab * 0.78, 0, (cab_height + 1.1) / 2], Material.PAINT
        ),
        box([0.5, width * 0.7, 0.8], [front - cab * 0.6, 0, 1.4], Material.INTERIOR),
        box([length - 0.3, 0.9, 0.25], [0, 0, 0.75], Material.METAL),
        box([load + front, width, 0.15], [(load - front) / 2, 0, 1.05], Material.METAL),
    ]
    if rng.random() < 0.75:
        parts.append(
            box([load + front, width, height - 1.1], [(load - front) / 2, 0, (height + 1.1) / 2], Material.PAINT)
        )
    else:
        parts += [box([0.1, width, height - 1.1], [load - 0.1, 0, (height + 1.1) / 2], Material.PAINT)]
        parts += [
            box([load + front, 0.08, 0.5], [(load - front) / 2, s * (width / 2 - 0.04), 1.35], Material.METAL)
            for s in (-1, 1)
        ]
    parts += _heavy_wheels([front - 1.2, -front + 1.3] + ([-front + 2.5] if length > 9 else []), width)
    return ActorModel(VEHICLE, "truck", merge(parts).fitted(length, width, height), (length, width, height))


def _bus(rng: Rng) -> ActorModel:
    """Long box with a glazed band and rows of seats."""
    length, width, height = rng.uniform(8.5, 13.0), rng.uniform(2.4, 2.55), rng.uniform(2.85, 3.4)
    belt, eaves = rng.uniform(1.0, 1.3), height - rng.uniform(0.4, 0.6)
    parts = [
        box([length, width, belt - 0.3], [0, 0, (belt + 0.3) / 2], Material.PAINT),
        box([length, width, height - eaves], [0, 0, (height + eaves) / 2], Material.PAINT),
        box([length - 0.05, width - 0.04, eaves - belt], [0, 0, (belt + eaves) / 2], Material.GLASS),
    ]
    for x in np.arange(-length / 2 + 0.6, length / 2 - 1.0, rng.uniform(0.8, 1.4)):
        parts += [box([0.12, 0.9, 0.7], [x, s * 0.7, belt + 0.2], Material.INTERIOR) for s in (-1, 1)]
        parts += [
            box([0.12, 0.05, eaves - belt], [x, s * (width / 2 - 0.03), (belt + eaves) / 2], Material.PAINT)
            for s in (-1, 1)
        ]
    parts += _heavy_wheels([length / 2 - 2.6, -length / 2 + 3.0], width)
    return ActorModel(VEHICLE, "bus", merge(parts).fitted(length, width, height), (length, width, height))
