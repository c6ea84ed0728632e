# SPDX-License-Identifier: Apache-2.0
"""From rays to returns: firing order, glass, drop-out, noise and intensity of a spinning LiDAR."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.scene import Scene
from perception_models.simulation.sensors import Lidar

F32 = NDArray[np.float32]
Rng = np.random.Generator

# Per material: how fast the return fades with incidence (exponent of the cosine) and roughness of the surface [m].
_FADE = np.array([0.5, 0.5, 0.4, 0.7, 0.3, 0.5, 0.9, 1.0, 3.0, 0.6, 0.5, 0.5, 0.2, 0.6], np.float32)
_ROUGHNESS = np.array([0.004, 0.004, 0.03, 0.008, 0.03, 0.01, 0.003, 0.003, 0.003, 0.004, 0.008, 0.005, 0.003, 0.01], np.float32)
_GLASS_PASSES = 3


@dataclass(frozen=True)
class Motion:
    """Where the sensor is during a sweep: pose at its start, then constant velocity and yaw rate."""

    pose: NDArray[np.float64]  # (4, 4) sensor -> world
    velocity: float = 0.0  # m/s along the sensor's x
    yaw_rate: float = 0.0  # rad/s

    def at(self, time: float) -> NDArray[np.float64]:
        """Pose (4, 4) at a time [s] since the start."""
        rotation, translation = self.sweep(np.array([time], np.float64))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation[0], translation[0]
        return pose

    def sweep(self, times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rotations (T, 3, 3) and positions (T, 3) at times (T,)."""
        yaw = self.yaw_rate * times
        c, s, o, i = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
        turn = np.stack([c, -s, o, s, c, o, o, o, i], axis=-1).reshape(-1, 3, 3)
        shift = np.stack([np.cos(yaw / 2), np.sin(yaw / 2), o], axis=-1) * (self.velocity * times)[:, None]
        return self.pose[:3, :3] @ turn, shift @ self.pose[:3, :3].T + self.pose[:3, 3]


@dataclass(frozen=True)
class Unit:
    """One particular sensor with its calibration errors and the day's conditions."""

    lidar: Lidar
    elevations: NDArray[np.float64]  # (B,) rad
    azimuth_offsets: NDArray[np.float64]  # (B,) rad
    range_bias: F32  # (B,) m
    columns: int
    threshold: float = 0.01  # signal at which half of the rays return
    noise: float = 1.0  # factor on the range noise
    gain: float = 1.0  # factor on the intensity

    @staticmethod
    def random(lidar: Lidar, rng: Rng, columns: int | None = None, threshold: float = 0.01, noise: float = 1.0, gain: float = 1.0) -> "Unit":
        """A unit with beams scattered about the published table."""
        beams = lidar.beams
        elevations = np.radians(lidar.elevations_deg + rng.normal(0, lidar.elevation_jitter_deg, beams))
        offsets = np.radians(rng.normal(0, lidar.azimuth_jitter_deg, beams))
        bias = rng.normal(0, 0.6 * lidar.range_noise, beams).astype(np.float32)
        return Unit(lidar, elevations, offsets, bias, columns or lidar.azimuth_steps, threshold, noise, gain)

    def column_azimuths(self) -> NDArray[np.float64]:
        """Azimuth of every firing (C,): clockwise from straight behind."""
        return np.pi - 2 * np.pi * (np.arange(self.columns) + 0.5) / self.columns

    def column_times(self) -> NDArray[np.float64]:
        """Time [s] of every firing (C,) since the start of the sweep."""
        return np.arange(self.columns) / (self.columns * self.lidar.rate_hz)

    def time_of(self, azimuth: float) -> float:
        """When the beam passes an azimuth [rad]."""
        return float((np.pi - azimuth) % (2 * np.pi) / (2 * np.pi) / self.lidar.rate_hz)

    def directions(self) -> F32:
        """Unit directions (C, B, 3) in the sensor frame."""
        azimuth, offset = self.column_azimuths()[:, None], self.azimuth_offsets[None]
        flat = np.cos(self.elevations)
        x = np.cos(azimuth) * (flat * np.cos(offset)) - np.sin(azimuth) * (flat * np.sin(offset))
        y = np.sin(azimuth) * (flat * np.cos(offset)) + np.cos(azimuth) * (flat * np.sin(offset))
        return np.stack([x, y, np.broadcast_to(np.sin(self.elevations), x.shape)], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class Returns:
    """What came back, in firing order; points in the sensor frame of their own instant."""

    points: F32  # (N, 4)
    rings: NDArray[np.uint16]
    times: F32
    instance: NDArray[np.int32]


@dataclass(frozen=True)
class _Surface:
    """What each ray met."""

    distance: F32
    cosine: F32
    material: NDArray[np.uint8]
    reflectance: F32
    instance: NDArray[np.int32]


def scan(scenes: Sequence[Scene], unit: Unit, motion: Motion, rng: Rng) -> Returns:
    """One sweep of the unit through the scenes."""
    local = unit.directions()
    rotation, position = motion.sweep(unit.column_times())
    directions = np.einsum("cij,cbj->cbi", rotation.astype(np.float32), local).reshape(-1, 3)
    origins = np.repeat(position.astype(np.float32), unit.lidar.beams, axis=0)
    met = _first_opaque(scenes, origins, directions, rng)
    ring = np.tile(np.arange(unit.lidar.beams, dtype=np.uint16), unit.columns)
    reach = (met.distance > unit.lidar.range_min) & (met.distance < unit.lidar.range_max)
    seen = np.flatnonzero(reach)
    strength = signal(met.reflectance[seen], met.cosine[seen], met.material[seen])
    kept = rng.random(len(seen), np.float32) < return_probability(strength, met.distance[seen], unit.threshold)
    seen, strength = seen[kept], strength[kept]
    distance = _noisy_range(met, seen, unit.range_bias[ring[seen]], unit, rng)
    points = np.empty((len(seen), 4), np.float32)
    points[:, :3] = local.reshape(-1, 3)[seen] * distance[:, None]
    points[:, 3] = _intensity(strength, unit.gain, rng)
    times = (seen // unit.lidar.beams / (unit.columns * unit.lidar.rate_hz)).astype(np.float32)
    return Returns(points, ring[seen], times, met.instance[seen])


def signal(reflectance: F32, cosine: F32, material: NDArray[np.uint8]) -> F32:
    """Strength of the return at unit range: reflectance faded with incidence."""
    return np.asarray(reflectance * np.maximum(cosine, 0.01) ** _FADE[material], np.float32)


def return_probability(strength: F32, distance: F32, threshold: float) -> F32:
    """Chance that a return of this strength is detected at this distance [m]; falls with the squared distance."""
    received = strength * (50.0 / distance) ** 2
    return np.asarray(0.99 / (1.0 + (threshold / np.maximum(received, 1e-6)) ** 2), np.float32)


def _first_opaque(scenes: Sequence[Scene], origins: F32, directions: F32, rng: Rng) -> _Surface:
    """Nearest surface of each ray, going on behind the glass that lets it through."""
    met = _nearest(scenes, origins, directions, rng)
    travelled = met.distance
    for _ in range(_GLASS_PASSES):
        through = np.flatnonzero(met.cosine < 0)
        if len(through) == 0:
            break
        step = travelled[through] + np.float32(0.004)
        behind = _nearest(scenes, origins[through] + directions[through] * step[:, None], directions[through], rng)
        travelled[through] = step + behind.distance
        for field, value in (("cosine", behind.cosine), ("material", behind.material), ("reflectance", 0.7 * behind.reflectance), ("instance", behind.instance)):
            getattr(met, field)[through] = value
    travelled[met.cosine < 0] = np.inf
    return met


def _nearest(scenes: Sequence[Scene], origins: F32, directions: F32, rng: Rng) -> _Surface:
    """Nearest hit over all scenes; the cosine is -1 where the ray goes through glass, distance infinite where nothing is."""
    count = len(origins)
    met = _Surface(np.full(count, np.inf, np.float32), np.zeros(count, np.float32), np.zeros(count, np.uint8), np.zeros(count, np.float32), np.full(count, -1, np.int32))
    for scene in scenes:
        hits = scene.caster.cast(origins, directions)
        near = np.flatnonzero(hits.distance < met.distance)
        face = hits.face[near]
        met.distance[near] = hits.distance[near]
        cosine = np.abs(np.einsum("ij,ij->i", scene.normals[face], directions[near]))
        glass = scene.transmission[face]
        met.cosine[near] = np.where((glass > 0) & (rng.random(len(near), np.float32) < glass), np.float32(-1), cosine)
        met.material[near] = scene.materials[face]
        met.reflectance[near] = scene.reflectance[face]
        met.instance[near] = scene.instance[face]
    return met


def _noisy_range(met: _Surface, seen: NDArray[np.int64], bias: F32, unit: Unit, rng: Rng) -> F32:
    """Measured range: bias of the beam, its noise, roughness of the surface, and the smear of a slanting footprint."""
    distance = met.distance[seen]
    footprint = np.minimum(0.0004 * distance / np.maximum(met.cosine[seen], 0.05), 0.08)
    spread = np.sqrt((unit.noise * unit.lidar.range_noise) ** 2 + _ROUGHNESS[met.material[seen]] ** 2 + footprint**2)
    return np.asarray(distance + unit.noise * bias + spread * rng.standard_normal(len(seen), np.float32), np.float32)


def _intensity(strength: F32, gain: float, rng: Rng) -> F32:
    """Reported reflectance in steps of 0.01."""
    value = gain * strength * (1.0 + 0.15 * rng.standard_normal(len(strength), np.float32))
    return np.asarray(np.round(np.clip(value, 0.0, 1.0), 2), np.float32)
