# SPDX-License-Identifier: Apache-2.0
"""From rays to returns: firing order, glass, drop-out, noise and intensity of a spinning LiDAR."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from perception_models.geometry import se3
from perception_models.simulation.light import ROUGHNESS, SurfaceHits, first_opaque, return_probability, signal
from perception_models.simulation.scene import Scene
from perception_models.simulation.unit import Unit

F32 = NDArray[np.float32]
Rng = np.random.Generator
_STRAY_SHARE, _STRAY = 0.03, 4.0  # some returns scatter more than the rest


@dataclass(frozen=True)
class Motion:
    """Where the sensor is during a sweep: pose at its start, then constant velocity and turn rate."""

    pose: NDArray[np.float64]  # (4, 4) sensor -> world
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m/s along the axes of the sensor at the start
    turn_rate: tuple[float, float, float] = (0.0, 0.0, 0.0)  # rad/s about the same axes

    def at(self, time: float) -> NDArray[np.float64]:
        """Pose (4, 4) at a time [s] since the start."""
        rotation, translation = self.sweep(np.array([time], np.float64))
        return se3.make(rotation[0], translation[0])

    def sweep(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotations (T, 3, 3) and positions (T, 3) at times (T,)."""
        turn = Rotation.from_rotvec(times[:, None] * np.array(self.turn_rate)).as_matrix()
        shift = times[:, None] * np.array(self.velocity)
        return self.pose[:3, :3] @ turn, shift @ self.pose[:3, :3].T + self.pose[:3, 3]


def mounted(ground_pose: NDArray[np.float64], height: float, roll: float, pitch: float) -> NDArray[np.float64]:
    """Pose (4, 4) of a sensor at a height [m] above a pose on the ground, tilted by roll and pitch [rad]."""
    return ground_pose @ se3.from_yaw_pitch_roll(0.0, pitch, roll, (0.0, 0.0, height))


@dataclass(frozen=True)
class Returns:
    """What came back, in firing order; points in the sensor frame of their own instant."""

    points: F32  # (N, 4)
    rings: NDArray[np.uint16]
    times: F32
    instance: NDArray[np.int32]


def scan(scenes: Sequence[Scene], unit: Unit, motion: Motion, rng: Rng) -> Returns:
    """One sweep of the unit through the scenes, which are in the world's frame."""
    lidar, day = unit.lidar, unit.conditions
    local = unit.directions()
    column, beam = _open_view(unit, local)
    local = local[column, beam]
    height = lidar.beam_heights.astype(np.float32)[beam]
    rotation, position = (part.astype(np.float32)[column] for part in motion.sweep(unit.column_times()))
    directions = np.einsum("nij,nj->ni", rotation, local)
    met = first_opaque(scenes, position + rotation[:, :, 2] * height[:, None], directions, rng)
    seen = np.flatnonzero((met.distance > lidar.range_min) & (met.distance < lidar.range_max))
    strength = signal(met.reflectance[seen], met.cosine[seen], met.material[seen])
    kept = rng.random(len(seen), np.float32) < return_probability(strength, met.distance[seen], day.threshold)
    seen, strength = seen[kept], strength[kept]
    points = np.empty((len(seen), 4), np.float32)
    points[:, :3] = local[seen] * _noisy_range(met, seen, unit.range_bias[beam[seen]], unit, rng)[:, None]
    points[:, 2] += height[seen]
    points[:, 3] = _intensity(strength, day.gain, rng)
    times = unit.column_times()[column[seen]].astype(np.float32)
    return Returns(points, beam[seen].astype(np.uint16), times, met.instance[seen])


def _open_view(unit: Unit, directions: F32) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Column and beam of every ray that the carrying vehicle does not hide, in firing order."""
    if unit.shadow is None:
        column, beam = np.divmod(np.arange(unit.columns * unit.lidar.beams), unit.lidar.beams)
        return column, beam
    column, beam = np.nonzero(~unit.shadow.hides(directions, unit.lidar.beam_heights))
    return column, beam


def _noisy_range(met: SurfaceHits, seen: NDArray[np.int64], bias: F32, unit: Unit, rng: Rng) -> F32:
    """Measured range: bias of the beam, its noise, roughness of the surface, and the smear of a slanting footprint."""
    distance, noise = met.distance[seen], unit.conditions.noise
    footprint = np.minimum(0.00004 * distance / np.maximum(met.cosine[seen], 0.02), 0.06)
    spread = np.sqrt((noise * unit.lidar.range_noise) ** 2 + ROUGHNESS[met.material[seen]] ** 2 + footprint**2)
    spread[rng.random(len(seen), np.float32) < _STRAY_SHARE] *= _STRAY
    return np.asarray(distance + noise * bias + spread * rng.standard_normal(len(seen), np.float32), np.float32)


def _intensity(strength: F32, gain: float, rng: Rng) -> F32:
    """Reported reflectance in steps of 0.01."""
    value = gain * strength * (1.0 + 0.2 * rng.standard_normal(len(strength), np.float32)) - 0.03
    return np.asarray(np.round(np.clip(value, 0.0, 1.0), 2), np.float32)
