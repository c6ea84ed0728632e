# SPDX-License-Identifier: Apache-2.0
"""Spinning LiDARs and their published beam tables."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Lidar:
    """A spinning multi-beam LiDAR; elevations run from the highest beam to the lowest."""

    name: str
    elevations_deg: NDArray[np.float64]  # (B,) above the horizon, top to bottom
    azimuth_steps: int  # firings per revolution at rate_hz
    rate_hz: float
    range_min: float  # m; nearer returns are the vehicle that carries the sensor
    range_max: float  # m
    range_noise: float  # m, standard deviation of one return
    elevation_jitter_deg: float  # spread of the single beam around its nominal elevation
    azimuth_jitter_deg: float  # spread of the single beam around its nominal azimuth
    beam_heights: NDArray[np.float64]  # (B,) m, where each beam starts above the origin of the point cloud

    @property
    def beams(self) -> int:
        """Number of beams B."""
        return len(self.elevations_deg)


def _hdl64() -> NDArray[np.float64]:
    """Upper block in steps of 1/3 degree, lower block in steps of 1/2 degree (Velodyne HDL-64E S2 manual)."""
    upper = 2.0 - np.arange(32) / 3.0
    lower = -8.83 - np.arange(32) * 0.5
    return np.concatenate([upper, lower])


def _hdl64_heights() -> NDArray[np.float64]:
    """The two blocks of lasers sit one above the other, by about what the type's calibration files give."""
    return np.concatenate([np.linspace(0.209, 0.198, 32), np.linspace(0.126, 0.116, 32)])


def _even(top: float, bottom: float, beams: int) -> NDArray[np.float64]:
    return np.linspace(top, bottom, beams, dtype=np.float64)


SENSORS: dict[str, Lidar] = {
    lidar.name: lidar
    for lidar in (
        Lidar("hdl64", _hdl64(), 2048, 10.0, 2.5, 120.0, 0.010, 0.07, 0.03, _hdl64_heights()),
        Lidar("hdl32", _even(10.67, -30.67, 32), 1800, 10.0, 2.0, 100.0, 0.010, 0.02, 0.02, np.zeros(32)),
        Lidar("vlp16", _even(15.0, -15.0, 16), 1800, 10.0, 1.5, 100.0, 0.012, 0.02, 0.02, np.zeros(16)),
        Lidar("os1_128", _even(22.5, -22.5, 128), 1024, 10.0, 1.0, 120.0, 0.012, 0.01, 0.01, np.zeros(128)),
    )
}
