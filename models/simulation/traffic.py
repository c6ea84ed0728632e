# SPDX-License-Identifier: Apache-2.0
"""Places vehicles and people on a street at one instant."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from perception_models.classes import CYCLIST, PEDESTRIAN, VEHICLE
from perception_models.geometry import se3
from perception_models.simulation.actors import Actor, ActorModel
from perception_models.simulation.assets import NO_ASSETS, Assets
from perception_models.simulation.people import random_cyclist, random_pedestrian
from perception_models.simulation.street import Column, Row, Street
from perception_models.simulation.vehicles import random_vehicle

Rng = np.random.Generator
Maker = Callable[[Rng], ActorModel]


class ModelPool:
    """Ready-made models to draw from; a few are replaced from time to time so that shapes never run out."""

    def __init__(self, rng: Rng, makers: Sequence[tuple[Maker, int]]) -> None:
        """Make `count` models of each maker."""
        self._rng, self._makers = rng, [m for m, _ in makers]
        self._models = [[make(rng) for _ in range(count)] for make, count in makers]

    def draw(self, group: int, rng: Rng) -> ActorModel:
        """Any model of a group."""
        models = self._models[group]
        return models[rng.integers(len(models))]

    def refresh(self, count: int) -> None:
        """Replace `count` models of every group."""
        for make, models in zip(self._makers, self._models, strict=True):
            for _ in range(count):
                models[self._rng.integers(len(models))] = make(self._rng)


def default_pool(rng: Rng, size: int = 120, assets: Assets = NO_ASSETS) -> ModelPool:
    """Vehicles, pedestrians and cyclists; a part of them from the assets, where there are any."""
    vehicle = _mixed(random_vehicle, assets.vehicle, 0.2 if assets.vehicles else 0.0)
    pedestrian = _mixed(random_pedestrian, assets.pedestrian, 0.4 if assets.people else 0.0)
    return ModelPool(rng, [(vehicle, size), (pedestrian, size // 4), (random_cyclist, size // 5)])


def _mixed(usual: Maker, other: Maker, share: float) -> Maker:
    return lambda rng: other(rng) if rng.random() < share else usual(rng)


class Placement:
    """Puts actors on a street where there is room."""

    def __init__(self, street: Street, pool: ModelPool, rng: Rng, first_id: int = 1) -> None:
        """Start with the room that static things take; track ids count from first_id."""
        self.street, self.pool, self.rng = street, pool, rng
        self.actors: list[Actor] = []
        self._next_id = first_id
        self._taken = np.array(street.taken or [(1e9, 1e9, 0.0)])
        self._centre, self._reach = np.zeros(2), np.inf

    def around(self, ground_pose: NDArray[np.float64], rng: Rng, reach: float = 62.0) -> "Placement":
        """A further placement near a vehicle that stands at the pose (4, 4), beside the actors placed so far."""
        further = Placement(self.street, self.pool, rng, self._next_id)
        ego = [[*(ground_pose[:2, 3] + along * ground_pose[:2, 0]), 1.3] for along in (-1.3, 0.0, 1.3)]
        further._taken = np.concatenate([self._taken, ego])
        further._centre, further._reach = ground_pose[:2, 3], reach
        return further

    def place(
        self,
        group: int,
        s: float,
        d: float,
        yaw: float,
        gap: float = 0.15,
        model: ActorModel | None = None,
        speed: float = 0.0,
    ) -> bool:
        """Place a model of the group at street coordinates, if it is near and `gap` metres around it are free.

        Says whether it was placed. `speed` [m/s] is along its heading.
        """
        model = model or self.pool.draw(group, self.rng)
        pose = self.street.ground.pose(s, d, yaw, wheelbase=max(0.6 * model.size[0], 0.5))
        if np.hypot(*(pose[:2, 3] - self._centre)) > self._reach:
            return False
        circles = _footprint(model, pose)
        apart = (
            np.linalg.norm(circles[:, None, :2] - self._taken[None, :, :2], axis=-1)
            - circles[:, None, 2]
            - self._taken[None, :, 2]
        )
        if apart.min() < gap:
            return False
        self._taken = np.concatenate([self._taken, circles])
        velocity = speed * pose[:2, 0]
        paint, transmission = random_paint(self.rng), random_transmission(self.rng)
        self.actors.append(
            Actor(model, pose, self._next_id, paint, transmission, (float(velocity[0]), float(velocity[1])))
        )
        self._next_id += 1
        return True

    def park(self, occupancy: float) -> None:
        """Fill a share, the occupancy, of the street's parking places."""
        for row in self.street.rows:
            self._fill_row(row, occupancy)
        for column in self.street.columns:
            self._fill_column(column, occupancy)

    def _fill_row(self, row: Row, occupancy: float) -> None:
        """Park vehicles in a row, some touching, some apart."""
        s, tight = row.s0, self.rng.uniform(0.3, 2.0)
        while s < row.s1:
            model = self.pool.draw(VEHICLE, self.rng)
            step = row.pitch or model.size[0] + 0.25 + self.rng.exponential(tight)
            if model.size[0] < 6.2 and self.rng.random() < occupancy:
                turn = row.yaw + self.rng.normal(0, 0.03) + np.pi * (self.rng.random() < (0.5 if row.pitch else 0.12))
                middle = s + (row.pitch or model.size[0]) / 2
                self.place(VEHICLE, middle, row.d + self.rng.normal(0, 0.12), turn, gap=0.03, model=model)
            s += step

    def _fill_column(self, column: Column, occupancy: float) -> None:
        """Park vehicles one behind the other along a side street."""
        away = np.sign(column.d1)
        d, tight = abs(column.d0), self.rng.uniform(0.3, 3.0)
        while d < abs(column.d1):
            model = self.pool.draw(VEHICLE, self.rng)
            if model.size[0] < 6.2 and self.rng.random() < occupancy:
                yaw = self.rng.choice([-1, 1]) * np.pi / 2 + self.rng.normal(0, 0.03)
                s = column.s + self.rng.normal(0, 0.1)
                self.place(VEHICLE, s, away * (d + model.size[0] / 2), yaw, gap=0.03, model=model)
            d += model.size[0] + 0.25 + self.rng.exponential(tight)

    def fill_lane(self, d: float, yaw: float, s0: float, s1: float, spacing: float) -> None:
        """Moving vehicles in the lane at d from s0 to s1 [m], apart by `spacing` metres in the mean beyond 1.5 m."""
        s = s0 + self.rng.uniform(0, 25)
        while s < s1:
            model = self.pool.draw(VEHICLE, self.rng)
            self.place(
                VEHICLE,
                s + model.size[0] / 2,
                d + self.rng.normal(0, 0.25),
                yaw + self.rng.normal(0, 0.03),
                gap=0.3,
                model=model,
                speed=self.rng.uniform(0, 14),
            )
            s += model.size[0] + 1.5 + self.rng.exponential(spacing)

    def fill_junctions(self, chance: float) -> None:
        """Vehicles in side streets and turning at their mouths; `chance` of one at each of these places."""
        half = self.street.ground.half_width
        for a, b in self.street.ground.gaps:
            for side, lane in product((-1, 1), (-1, 1)):
                if self.rng.random() < chance:
                    out = self.rng.uniform(half + 3, half + 32)
                    yaw = lane * np.pi / 2 + self.rng.normal(0, 0.06)
                    self.place(VEHICLE, (a + b) / 2 + lane * (b - a) / 4, side * out, yaw)
            if self.rng.random() < chance:
                self.place(
                    VEHICLE, self.rng.uniform(a, b), self.rng.uniform(-half, half), self.rng.uniform(-np.pi, np.pi)
                )

    def fill_people(self, walkers: int, riders: int, s0: float, s1: float) -> None:
        """Pedestrians on pavements, alone or in groups, some crossing; cyclists at the edge of the road."""
        half, pavement = self.street.ground.half_width, self.street.ground.pavement
        for _ in range(walkers):
            s, side = self.rng.uniform(s0, s1), self.rng.choice([-1, 1])
            crossing = self.rng.random() < 0.2
            d = self.rng.uniform(-half, half) if crossing else side * (half + self.rng.uniform(0.0, pavement + 2.0))
            for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
                self.place(
                    PEDESTRIAN,
                    s + self.rng.normal(0, 0.6),
                    d + self.rng.normal(0, 0.4),
                    self.rng.uniform(-np.pi, np.pi),
                    gap=0.05,
                )
        for _ in range(riders):
            side = self.rng.choice([-1, 1])
            yaw = (0.0 if side < 0 else np.pi) + self.rng.normal(0, 0.1) + np.pi * (self.rng.random() < 0.15)
            self.place(
                CYCLIST,
                self.rng.uniform(s0, s1),
                side * self.rng.uniform(max(half - 2.5, 0), half + pavement),
                yaw,
                gap=0.1,
            )


def random_paint(rng: Rng) -> float:
    """Reflectance at 905 nm of a car's paint or of cloth: white and silver to near-black."""
    return float(
        rng.choice([rng.uniform(0.35, 0.8), rng.uniform(0.1, 0.4), rng.uniform(0.015, 0.08)], p=[0.42, 0.33, 0.25])
    )


def random_transmission(rng: Rng) -> float:
    """Share of the rays that get through a car's windows: tinted and coated glass to clear glass."""
    return float(0.1 + 0.85 * rng.beta(1.0, 1.4))


def _footprint(model: ActorModel, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Circles (C, 3) x y r that cover the model's rectangle closely from within."""
    length, width, _ = model.size
    count = max(1, int(np.ceil(length / max(0.5 * width, 0.3))))
    x = (np.arange(count) + 0.5) / count * length - length / 2
    x = np.clip(x, -length / 2 + width / 2, length / 2 - width / 2) if length > width else x * 0
    middle = se3.apply(pose, np.stack([x, np.zeros(count), np.zeros(count)], axis=1))
    return np.column_stack([middle[:, :2], np.full(count, width / 2)])
