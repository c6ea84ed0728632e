# SPDX-License-Identifier: Apache-2.0
"""One particular sensor: its calibration errors, the day's conditions, and what its vehicle hides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.sensors import Lidar

F32 = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class Conditions:
    """State of the sensor and of the day."""

    threshold: float = 0.01  # signal at which half of the rays return
    noise: float = 1.0  # factor on the range noise
    gain: float = 1.0  # factor on the intensity


@dataclass(frozen=True)
class Shadow:
    """The part of the view that the carrying vehicle hides: its roof, and masts beside the sensor."""

    drop: float  # m, from the origin down to the roof
    front: float  # m, where the roof ends
    rear: float
    side: float
    wedges: tuple[
        tuple[float, float, float], ...
    ] = ()  # azimuth, half width, elevation below which nothing is seen; rad

    @staticmethod
    def random(rng: Rng) -> "Shadow":
        """A roof of usual size and up to two masts."""
        wedges = tuple(
            (rng.uniform(-np.pi, np.pi), rng.uniform(0.03, 0.2), np.radians(rng.uniform(-24, -8)))
            for _ in range(rng.integers(0, 3))
        )
        return Shadow(
            rng.uniform(0.2, 0.45), rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.5), rng.uniform(0.5, 0.8), wedges
        )

    def hides(self, directions: F32, heights: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the directions (C, B, 3) from beams at heights (B,) above the origin are hidden, (C, B)."""
        reach = (self.drop + heights) / np.maximum(-directions[..., 2], 1e-3)
        x, y = directions[..., 0] * reach, directions[..., 1] * reach
        hidden = (x < self.front) & (x > -self.rear) & (np.abs(y) < self.side)
        azimuth, elevation = np.arctan2(directions[:, 0, 1], directions[:, 0, 0]), np.arcsin(directions[0, :, 2])
        for middle, half_width, below in self.wedges:
            near = np.abs((azimuth - middle + np.pi) % (2 * np.pi) - np.pi) < half_width
            hidden |= near[:, None] & (elevation < below)
        return np.asarray(hidden)


@dataclass(frozen=True)
class Unit:
    """One particular sensor with its calibration errors and the day's conditions."""

    lidar: Lidar
    elevations: NDArray[np.float64]  # (B,) rad
    azimuth_offsets: NDArray[np.float64]  # (B,) rad
    range_bias: F32  # (B,) m
    columns: int
    conditions: Conditions
    shadow: Shadow | None = None  # what the carrying vehicle hides

    @staticmethod
    def random(
        lidar: Lidar,
        rng: Rng,
        columns: int | None = None,
        conditions: Conditions | None = None,
        shadow: Shadow | None = None,
    ) -> "Unit":
        """A unit whose beams scatter about the published table: each alone, and all by a common stretch."""
        beams = lidar.beams
        stretch = 1.0 + 0.15 * lidar.elevation_jitter_deg * rng.normal()
        elevations = np.radians(stretch * lidar.elevations_deg + rng.normal(0, lidar.elevation_jitter_deg, beams))
        offsets = np.radians(rng.normal(0, lidar.azimuth_jitter_deg, beams))
        bias = rng.normal(0, 0.6 * lidar.range_noise, beams).astype(np.float32)
        return Unit(
            lidar, elevations, offsets, bias, columns or lidar.azimuth_steps, conditions or Conditions(), shadow
        )

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
