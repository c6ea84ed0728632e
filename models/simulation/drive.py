# SPDX-License-Identifier: Apache-2.0
"""A drive along a street with moving traffic: a sequence of sweeps with consistent tracks and poses."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception_models.geometry import se3
from perception_models.simulation.frame import LidarFrame
from perception_models.simulation.layout import random_street
from perception_models.simulation.population import Population
from perception_models.simulation.routes import Cruise, Route, lane_route, random_cruise
from perception_models.simulation.scan import Motion, mounted
from perception_models.simulation.scene import Placed, assemble
from perception_models.simulation.sensors import SENSORS
from perception_models.simulation.street import STYLES, Street
from perception_models.simulation.sweep import sweep
from perception_models.simulation.traffic import Placement, default_pool
from perception_models.simulation.unit import Conditions, Shadow, Unit

Rng = np.random.Generator
RATE_HZ = 10.0
_AHEAD = 95.0  # m of street beyond both ends of the drive


def simulate_drive(
    seed: int, seconds: float, sensor: str = "hdl64", motion_distortion: bool = True, people: float = 1.0
) -> Iterator[LidarFrame]:
    """Yield the sweeps of a drive at 10 Hz; the same seed gives the same drive.

    Points are in the sensor frame of their own instant, as a spinning sensor gives them; `pose` and `times` undo
    that. Without motion_distortion the sensor stands still during each sweep. There are `people` times as many walkers
    and riders as usual. Raises ValueError for an unknown sensor or a length that is not positive.
    """
    if sensor not in SENSORS:
        raise ValueError(f"unknown sensor {sensor!r}; choose one of {', '.join(SENSORS)}")
    if not seconds > 0:
        raise ValueError(f"a drive must last longer than 0 s, got {seconds}")
    return _drive(np.random.default_rng(seed), seconds, sensor, motion_distortion, people)


def _drive(rng: Rng, seconds: float, sensor: str, motion_distortion: bool, people: float) -> Iterator[LidarFrame]:
    cruise = random_cruise(rng, (4.0, 11.0))
    reach = cruise(seconds + 1.0)
    street = random_street(rng, -_AHEAD, reach + _AHEAD, STYLES[rng.integers(3)], bends=(45.0, 0.4))
    pool = default_pool(rng, 60)
    parked = Placement(street, pool, rng)
    parked.park(occupancy=rng.uniform(0.3, 0.95))
    static = assemble([*street.things, *(Placed.of(actor) for actor in parked.actors)])
    movers = Population(street, pool, rng, len(parked.actors) + 1).movers(cruise, seconds, people)
    unit = Unit.random(
        SENSORS[sensor], rng, conditions=Conditions(noise=1.0, threshold=0.008), shadow=Shadow.random(rng)
    )
    tilt = rng.normal(0, np.radians(0.5), 2)
    ego = lane_route(street.ground, -street.lane, 1)
    for k in range(round(seconds * RATE_HZ)):
        time = k / RATE_HZ
        present = [m.at(time, street.ground) for m in movers if m.on_route(time)]
        motion = _ego_motion(street, ego, cruise, time, tilt)
        still = motion if motion_distortion else Motion(motion.pose)
        near = [a for a in present if np.hypot(*(a.position[:2] - motion.pose[:2, 3])) < 80.0]
        yield sweep(static, parked.actors, near, unit, still, rng, time, label_range=60.0)


def _ego_motion(street: Street, route: Route, cruise: Cruise, time: float, tilt: NDArray[np.float64]) -> Motion:
    """Pose of the sensor at a time, and its velocity and turn rate until the next sweep."""
    here, soon = (
        mounted(street.ground.pose(*route.at(cruise(t)), 2.7), 1.73, *tilt) for t in (time, time + 1 / RATE_HZ)
    )
    step = se3.inverse(here) @ soon
    turn = Rotation.from_matrix(step[:3, :3]).as_rotvec()
    return Motion(here, tuple(step[:3, 3] * RATE_HZ), tuple(turn * RATE_HZ))
