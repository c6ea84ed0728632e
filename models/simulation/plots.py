# SPDX-License-Identifier: Apache-2.0
"""What fills the plots beside a street: houses, terraces, greens, car parks, yards, fields."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perception_models.simulation.buildings import building
from perception_models.simulation.scenery import fence, wall
from perception_models.simulation.shapes import Mesh
from perception_models.simulation.street import Maker, Row, Street
from perception_models.simulation.vegetation import GREENERY, hedge

Rng = np.random.Generator


@dataclass(frozen=True)
class Plot:
    """Ground from s over a length [m], on one side (-1, 1) of the street, `back` metres from its middle."""

    street: Street
    side: int
    s: float
    length: float
    back: float
    rng: Rng

    def put(self, mesh: Mesh, along: float, out: float, yaw: float = 0.0) -> None:
        """Stand a mesh at a share of the length, `out` metres back; at yaw 0 its +y points off the street."""
        facing = 0.0 if self.side > 0 else np.pi
        self.street.put(mesh, self.s + along * self.length, self.side * (self.back + out), facing + yaw, self.rng)

    def scatter(self, makers: Sequence[Maker], count: int, nearest: float, farthest: float) -> None:
        """Stand random things anywhere on the plot, at any yaw."""
        for _ in range(count):
            make = makers[int(self.rng.integers(len(makers)))]
            out = self.rng.uniform(nearest, farthest)
            self.put(make(self.rng), self.rng.uniform(0.03, 0.97), out, self.rng.uniform(-np.pi, np.pi))

    def park(self, first: float, last: float, out: float, slant: float, pitch: float) -> None:
        """Parking places side by side between two distances along the plot."""
        self.street.rows.append(Row(self.s + first, self.s + last, self.side * (self.back + out), slant, pitch))


def house(plot: Plot) -> None:
    """Detached house behind a hedge, fence or wall, with a driveway."""
    rng, front, drive = plot.rng, plot.rng.uniform(2.0, 9.0), 3.4 if plot.rng.random() < 0.7 else 0.3
    free = plot.length - drive
    if free > 5:
        width = min(rng.uniform(7, 14), free - 0.5)
        plot.put(building(rng, width), (drive + width / 2) / plot.length, front)
    border: tuple[Callable[[Rng, float], Mesh], ...] = (hedge, hedge, fence, wall)
    if rng.random() < 0.75 and free > 2:
        plot.put(border[rng.integers(4)](rng, free), (drive + free / 2) / plot.length, rng.uniform(0.1, 0.5))
    if drive > 1:
        plot.park(0.7, 2.9, rng.uniform(2.6, 4.5), plot.side * np.pi / 2, 2.6)
    plot.scatter(plot.street.clutter, int(rng.integers(0, 5)), 0.9, front)


def terrace(plot: Plot) -> None:
    """A facade straight behind the pavement, clutter before it."""
    rng = plot.rng
    length = plot.length - rng.uniform(0.0, 2.0) * (rng.random() < 0.3)
    plot.put(building(rng, length), 0.5, rng.uniform(0.0, 0.6))
    plot.scatter(plot.street.clutter, int(rng.integers(0, 3)), -1.2, -0.5)


def green(plot: Plot) -> None:
    """Trees and shrubs, sometimes behind a hedge."""
    if plot.rng.random() < 0.3:
        plot.put(hedge(plot.rng, plot.length - 1), 0.5, 0.5)
    plot.scatter(GREENERY, int(plot.length * plot.rng.uniform(0.1, 0.35)), 0.5, 8.0)
    plot.scatter(GREENERY, int(plot.length * plot.rng.uniform(0.1, 0.35)), 8.0, 30.0)


def car_park(plot: Plot) -> None:
    """Rows of places side by side before a building."""
    rng, out = plot.rng, 3.5
    slant = rng.choice([1.0, 1.0, 0.8]) * np.pi / 2
    for _ in range(rng.integers(1, 4)):
        plot.park(1.5, plot.length - 1.5, out, float(rng.choice([-1, 1]) * slant), rng.uniform(2.35, 2.9))
        out += float(rng.choice([5.2, 10.5]))
    plot.put(building(rng, plot.length), 0.5, out + 1.0)


def yard(plot: Plot) -> None:
    """Things that are hard to tell from vehicles and people."""
    if plot.rng.random() < 0.5:
        plot.put(fence(plot.rng, plot.length), 0.5, 0.2)
    plot.scatter(plot.street.clutter, int(plot.length * plot.rng.uniform(0.25, 0.6)), 0.6, 16.0)


def field(plot: Plot) -> None:
    """Open ground with a few trees, a fence or guard rail."""
    if plot.rng.random() < 0.4:
        plot.put(fence(plot.rng, plot.length), 0.5, plot.rng.uniform(0.0, 1.5))
    plot.scatter(GREENERY, int(plot.rng.integers(0, 4)), 1.0, 35.0)


PLOTS: dict[str, Callable[[Plot], None]] = {
    "house": house,
    "terrace": terrace,
    "green": green,
    "car_park": car_park,
    "yard": yard,
    "field": field,
}
