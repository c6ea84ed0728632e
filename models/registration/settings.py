# SPDX-License-Identifier: Apache-2.0
"""Lengths that fix how a cloud is prepared and aligned: one preset for rooms, one for LiDAR scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LIDAR_EXTENT = 20.0  # m; rooms are smaller, a LiDAR scan outdoors is larger


@dataclass(frozen=True)
class RegistrationSettings:
    """Lengths in metres. A cloud that was prepared with some settings can only be aligned with the same ones."""

    voxel: float
    normal_neighbours: int = 20
    feature_radii: tuple[float, ...] = (3.0, 6.0)  # of the descriptors, in voxels


INDOOR = RegistrationSettings(voxel=0.05)
LIDAR = RegistrationSettings(voxel=0.4)
SCALES = {"indoor": INDOOR, "lidar": LIDAR}


def settings_for(points: npt.NDArray[np.floating], scale: str = "auto") -> RegistrationSettings:
    """The preset named by `scale` ("indoor", "lidar"), or ("auto") the one that suits the extent of points (N, 3).

    The extent is between the 5th and 95th percentile of each axis, so that single far points do not decide.
    """
    if scale == "auto":
        low, high = np.percentile(points, [5, 95], axis=0) if len(points) else (np.zeros(3), np.zeros(3))
        return LIDAR if float(np.max(high - low)) > LIDAR_EXTENT else INDOOR
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; expected auto, {', '.join(SCALES)}")
    return SCALES[scale]
