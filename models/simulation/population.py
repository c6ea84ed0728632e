# SPDX-License-Identifier: Apache-2.0
"""Everything that moves during a drive: platoons in both lanes, turning traffic, walkers and riders."""

from collections.abc import Callable

import numpy as np

from perception_models.classes import CYCLIST, PEDESTRIAN, VEHICLE
from perception_models.simulation.actors import ActorModel
from perception_models.simulation.routes import (
    Cruise,
    Mover,
    Route,
    Travel,
    follow,
    lane_route,
    random_cruise,
    turning_route,
)
from perception_models.simulation.street import Street
from perception_models.simulation.traffic import ModelPool, random_paint, random_transmission

Rng = np.random.Generator
_EGO_ROOM = 11.0  # m before and behind the ego vehicle's own place in its platoon


def _try(draw: Callable[[float, float], Mover | None], reach: float, seconds: float) -> Mover | None:
    """The first mover that finds room, in a few attempts."""
    return next((mover for _ in range(6) if (mover := draw(reach, seconds)) is not None), None)


class Population:
    """Draws the movers of a street; track ids count from first_id."""

    def __init__(self, street: Street, pool: ModelPool, rng: Rng, first_id: int) -> None:
        """Take the street and the models to draw from."""
        self._street, self._pool, self._rng, self._next_id = street, pool, rng, first_id
        self._fixed = np.array(street.taken or [(1e9, 1e9, 0.0)])

    def movers(self, cruise: Cruise, seconds: float, people: float = 1.0) -> list[Mover]:
        """All movers of a drive that follows the cruise in the right lane for some seconds; `people` times as many
        walkers and riders as usual."""
        reach, oncoming = cruise(seconds), random_cruise(self._rng, (3.0, 12.0))
        crowd = self._platoon(cruise, 1, -90.0, reach + 90.0)
        crowd += self._platoon(oncoming, -1, -reach - 90.0 - oncoming(seconds), 90.0)
        walkers = round(people * (4 + int(reach * self._rng.uniform(0.02, 0.12))))
        for count, draw in ((walkers, self._walker), (2 + walkers // 4, self._rider)):
            crowd += [mover for _ in range(count) if (mover := _try(draw, reach, seconds)) is not None]
        return crowd

    def _platoon(self, cruise: Cruise, direction: int, first: float, last: float) -> list[Mover]:
        """Vehicles that keep their order in a lane; some enter it from a side street, some leave it into one."""
        rng, movers, spacing = self._rng, [], self._rng.uniform(8, 45)
        offset = first
        while offset < last:
            model = self._pool.draw(VEHICLE, rng)
            gap = 6.0 + rng.exponential(spacing)
            middle = offset + model.size[0] / 2
            offset += model.size[0] + gap
            if direction > 0 and abs(middle) < _EGO_ROOM + model.size[0] / 2:
                continue
            travel = follow(cruise, middle, rng.uniform(0, 0.2) * min(gap, 15.0), rng.uniform(10, 20))
            movers.append(self._mover(VEHICLE, self._vehicle_route(direction), travel, model))
        return movers

    def _vehicle_route(self, direction: int) -> Route:
        street, gaps = self._street, self._street.ground.gaps
        if gaps and self._rng.random() < 0.35:
            gap = gaps[self._rng.integers(len(gaps))]
            return turning_route(street.ground, street.lane, direction, gap, leaves=bool(self._rng.random() < 0.5))
        return lane_route(street.ground, -direction * street.lane, direction)

    def _mover(self, group: int, route: Route, travel: Travel, model: ActorModel | None = None) -> Mover:
        model = model or self._pool.draw(group, self._rng)
        self._next_id += 1
        return Mover(model, route, travel, self._next_id - 1, random_paint(self._rng), random_transmission(self._rng))

    def _walker(self, reach: float, seconds: float) -> Mover | None:
        """A pedestrian on the pavement, walking either way or standing; None where there is no room."""
        ground = self._street.ground
        d = ground.half_width + self._rng.uniform(0.5, max(ground.pavement - 0.3, 0.8))
        speed = 0.0 if self._rng.random() < 0.2 else float(self._rng.uniform(0.7, 1.8))
        return self._beside(PEDESTRIAN, d, speed, reach, seconds)

    def _rider(self, reach: float, seconds: float) -> Mover | None:
        """A cyclist along the kerb; None where there is no room."""
        d = self._street.ground.half_width + self._rng.uniform(-0.3, 0.4)
        return self._beside(CYCLIST, d, float(self._rng.uniform(2.5, 6.0)), reach, seconds)

    def _beside(self, group: int, d: float, speed: float, reach: float, seconds: float) -> Mover | None:
        """Someone who goes along the street at a distance d on either side, if nothing fixed is in the way."""
        ground, side, direction = self._street.ground, self._rng.choice([-1, 1]), int(self._rng.choice([-1, 1]))
        start = self._rng.uniform(-40, reach + 40) - direction * speed * seconds / 2
        s = start + direction * speed * np.linspace(0, seconds, 2 + int(speed * seconds / 0.4))
        path = ground.line.to_world(s, np.full(len(s), side * d))
        apart = np.linalg.norm(path[:, None] - self._fixed[None, :, :2], axis=-1) - self._fixed[None, :, 2]
        if apart.min() < 0.35:
            return None
        return self._mover(
            group, lane_route(ground, side * d, direction), lambda time: direction * start + speed * time
        )
