# SPDX-License-Identifier: Apache-2.0
"""Endless independent training sweeps from fresh streets, with randomised sensor and conditions."""

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.assets import NO_ASSETS, load
from perception_models.simulation.frame import LidarFrame
from perception_models.simulation.layout import random_street
from perception_models.simulation.scan import Motion, mounted
from perception_models.simulation.scene import Placed, Scene, assemble
from perception_models.simulation.scenery import CLUTTER
from perception_models.simulation.sensors import SENSORS
from perception_models.simulation.street import Street
from perception_models.simulation.sweep import sweep
from perception_models.simulation.traffic import Placement, default_pool
from perception_models.simulation.unit import Conditions, Shadow, Unit

Rng = np.random.Generator


class FrameSampler:
    """Draws training frames; equal seeds give equal sequences."""

    def __init__(
        self,
        seed: int,
        hdl64_share: float = 0.7,
        frames_per_street: int = 8,
        label_range: float = 60.0,
        motion_share: float = 0.5,
        assets: bool = True,
    ) -> None:
        """Take the share of HDL-64E frames, the frames a street serves for, how far objects are listed [m],
        and the share of frames in which the sensor moves during the sweep.

        With `assets`, the free meshes of assets.py are mixed in where they were fetched.
        """
        self._rng = np.random.default_rng(seed)
        self._hdl64_share, self._frames_per_street, self._label_range = hdl64_share, frames_per_street, label_range
        self._motion_share = motion_share
        self._assets = load() if assets else NO_ASSETS
        self._pool = default_pool(self._rng, 160, self._assets)
        self._clutter = (*CLUTTER, *(self._assets.thing for _ in range(6 if self._assets.clutter else 0)))
        self._left = 0
        self._street: Street
        self._parked: Placement
        self._static: Scene

    def sample(self) -> LidarFrame:
        """The next frame: a random place on the current street with traffic of its own."""
        if self._left == 0:
            self._new_street()
        self._left -= 1
        rng = self._rng
        unit, mount = self._random_unit()
        s, d, yaw = _random_stand(self._street, rng)
        ground_pose = self._street.ground.pose(s, d, yaw, 2.7)
        placement = self._populate(ground_pose, s)
        moving = rng.random() < self._motion_share
        roll, pitch = np.clip(rng.normal(0, np.radians(0.7), 2), -np.radians(1.5), np.radians(1.5))
        velocity = (rng.uniform(0, 14) * moving, 0.0, 0.0)
        motion = Motion(mounted(ground_pose, mount, roll, pitch), velocity, (0.0, 0.0, rng.normal(0, 0.12) * moving))
        frame = sweep(self._static, self._parked.actors, placement.actors, unit, motion, rng, 0.0, self._label_range)
        if rng.random() < 0.3:
            frame.points[:, 3] = 0.0
        return frame

    def _new_street(self) -> None:
        self._street = random_street(self._rng, clutter=self._clutter)
        self._parked = Placement(self._street, self._pool, self._rng)
        self._parked.park(occupancy=self._rng.beta(2.0, 1.2))
        self._static = assemble([*self._street.things, *(Placed.of(actor) for actor in self._parked.actors)])
        self._pool.refresh(4)
        self._left = self._frames_per_street

    def _random_unit(self) -> tuple[Unit, float]:
        """A sensor and its height above the ground."""
        rng = self._rng
        if rng.random() < self._hdl64_share:
            lidar, mount, columns = SENSORS["hdl64"], rng.normal(1.73, 0.06), int(rng.integers(1950, 2150))
        else:
            lidar, mount = SENSORS[rng.choice(list(SENSORS))], rng.uniform(1.0, 2.2)
            columns = int(lidar.azimuth_steps * rng.uniform(0.8, 1.15))
        threshold = float(np.exp(rng.uniform(np.log(0.004), np.log(0.03))))
        conditions = Conditions(threshold, noise=rng.uniform(0.6, 2.0), gain=rng.uniform(0.6, 1.6))
        shadow = Shadow.random(rng) if rng.random() < 0.75 else None
        return Unit.random(lidar, rng, columns, conditions, shadow), float(mount)

    def _populate(self, ground_pose: NDArray[np.float64], s: float) -> Placement:
        """Traffic and people around the sensor."""
        rng, street = self._rng, self._street
        place, spacing = self._parked.around(ground_pose, rng), rng.uniform(5, 70)
        for side in (-1, 1):
            place.fill_lane(side * street.lane, 0.0 if side < 0 else np.pi, s - 62, s + 62, spacing)
        place.fill_junctions(rng.uniform(0.1, 0.6))
        place.fill_people(int(rng.integers(0, 12)), int(rng.integers(0, 6)), s - 45, s + 45)
        return place


def _random_stand(street: Street, rng: Rng) -> tuple[float, float, float]:
    """Street coordinates s, d [m] and yaw [rad] of the ego vehicle.

    Mostly in a lane, else in a side street, turning, or anywhere on the road.
    """
    ground, kind = street.ground, rng.random()
    s = rng.uniform(-50, 50)
    if kind < 0.72 or not ground.gaps:
        side = -1 if rng.random() < 0.85 else 1
        return s, side * street.lane + rng.normal(0, 0.3), (0.0 if side < 0 else np.pi) + rng.normal(0, 0.05)
    a, b = ground.gaps[rng.integers(len(ground.gaps))]
    if kind < 0.86:
        side = rng.choice([-1, 1])
        s, d = (a + b) / 2 + side * (b - a) / 4, side * rng.uniform(0, 30)
        return s, d, rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.05)
    return rng.uniform(a, b), rng.uniform(-1, 1) * ground.half_width, rng.uniform(-np.pi, np.pi)
