# SPDX-License-Identifier: Apache-2.0
"""A street: its ground, what stands beside it, and where vehicles may park and drive."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.simulation.ground import Ground
from perception_models.simulation.scene import Placed
from perception_models.simulation.scenery import CLUTTER
from perception_models.simulation.shapes import Mesh

Rng = np.random.Generator
Array = NDArray[np.float64]
F32 = NDArray[np.float32]
Maker = Callable[[Rng], Mesh]
_SUNK = 0.03  # m; no light shows under what stands on uneven ground


@dataclass(frozen=True)
class Row:
    """A row of parking places from s0 to s1 at d [m], turned by yaw [rad] against the street.

    They are parallel to it (pitch 0), or side by side at a pitch [m].
    """

    s0: float
    s1: float
    d: float
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Column:
    """Parallel parking along a side street: at s, from d0 to d1 [m]."""

    s: float
    d0: float
    d1: float


@dataclass(frozen=True)
class Style:
    """What kind of street; pairs of lengths are the least and the most."""

    name: str
    half_width: tuple[float, float]  # m, of the carriageway
    pavement: tuple[float, float]  # m
    kerb: float  # m, mean height
    uneven: float  # m, waves of the ground beside the pavement
    junction_every: float  # m
    parking: float  # chance of parked cars along a side
    plots: tuple[tuple[str, float], ...]  # kind (key of plots.PLOTS) and its share


STYLES = (
    Style(
        "suburb",
        (2.8, 4.6),
        (0.8, 2.6),
        0.10,
        0.06,
        70,
        0.75,
        (("house", 0.62), ("green", 0.18), ("car_park", 0.08), ("yard", 0.12)),
    ),
    Style(
        "city",
        (3.5, 7.5),
        (1.8, 5.0),
        0.12,
        0.03,
        60,
        0.85,
        (("terrace", 0.68), ("green", 0.10), ("car_park", 0.12), ("yard", 0.10)),
    ),
    Style(
        "campus",
        (3.0, 5.5),
        (1.0, 4.0),
        0.08,
        0.08,
        45,
        0.45,
        (("house", 0.15), ("terrace", 0.2), ("green", 0.3), ("car_park", 0.25), ("yard", 0.1)),
    ),
    Style(
        "open",
        (3.0, 8.0),
        (0.3, 1.5),
        0.0,
        0.12,
        110,
        0.12,
        (("field", 0.6), ("green", 0.22), ("house", 0.08), ("yard", 0.1)),
    ),
)


@dataclass
class Street:
    """Ground, static things, parking rows and the circles (x, y, r) that are taken by static things."""

    style: Style
    ground: Ground
    lane: float  # distance of the traffic lanes from the centre line, m
    things: list[Placed] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    clutter: Sequence[Maker] = CLUTTER

    def put(self, mesh: Mesh, s: float, d: float, yaw: float, rng: Rng) -> None:
        """Stand a mesh upright at street coordinates s, d [m], turned by yaw [rad] against the street."""
        tilted = self.ground.pose(s, d, yaw)
        heading = float(np.arctan2(tilted[1, 0], tilted[0, 0]))
        pose = se3.from_yaw_pitch_roll(heading, 0.0, 0.0, tilted[:3, 3] - [0.0, 0.0, _SUNK])
        self.things.append(
            Placed(
                mesh.transformed(pose),
                paint=rng.uniform(0.05, 0.6),
                transmission=rng.uniform(0.2, 0.9),
                tint=rng.uniform(0.4, 1.5),
            )
        )
        low = mesh.vertices[mesh.vertices[:, 2] < 2.0]
        if len(low):
            self.taken.extend(_circles(low, pose))


def _circles(vertices: F32, pose: Array) -> list[tuple[float, float, float]]:
    """Circles that cover the footprint, one for each 1.5 m of its length."""
    low, high = vertices[:, :2].min(axis=0), vertices[:, :2].max(axis=0)
    width = min(float(high[1] - low[1]), 3.0)
    count = max(1, int((high[0] - low[0]) / 1.5))
    xs = low[0] + (np.arange(count) + 0.5) * (high[0] - low[0]) / count
    y = min((low[1] + high[1]) / 2, low[1] + width / 2)
    middle = se3.apply(pose, np.stack([xs, np.full(count, y), np.zeros(count)], axis=1))
    radius = 0.5 * float(np.hypot(width, (high[0] - low[0]) / count))
    return [(float(x), float(y), radius) for x, y, _ in middle]
