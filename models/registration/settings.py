# SPDX-License-Identifier: Apache-2.0
"""What fixes how a cloud is prepared and aligned: one preset for rooms, one for LiDAR scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LIDAR_EXTENT = 20.0  # m; rooms are smaller, a LiDAR scan outdoors is larger


@dataclass(frozen=True)
class RegistrationSettings:
    """Lengths in voxels but for the voxel itself, angles in radians. Clouds to be aligned have the same settings."""

    voxel: float  # m
    normal_neighbours: int = 20
    feature_radii: tuple[float, ...] = (3.0, 6.0)  # of the descriptors
    temperature: float = 0.006  # of the dual softmax over cosines of classical descriptors
    matched_points: int = 3000  # of a cloud, at most; a larger one is matched by a part of its points
    correspondences: int = 500
    tolerance: float = 2.0  # of a correspondence: noise of the points, and the voxels' own size
    normal_tolerance: float = 0.7  # 40 degrees
    group: int = 20  # correspondences that propose a transform together
    hypotheses: int = 100
    sampled_points: int = 300  # of each cloud, to verify a hypothesis with
    refined_hypotheses: int = 12
    distinct: float = 4.0  # hypotheses that move the cloud's far points by less are one
    refining_points: int = 500  # of the source, for candidates
    judged_points: int = 1500  # of each cloud, to choose among what was refined
    free_margin: float = 4.0  # in front of what was seen, from where on a point contradicts it
    violation_weight: float = 4.0  # a surface may meet by chance, but does not stand in free space by chance
    least_points: int = 100  # of a cloud
    least_inliers: int = 100
    least_overlap: float = 0.1  # less what is contradicted
    most_violation: float = 0.012  # share of the points in free space: right alignments of rooms had 0.008 at most
    least_support: float = 5.0
    least_constraint: float = 0.01


INDOOR = RegistrationSettings(voxel=0.05)
LIDAR = RegistrationSettings(voxel=0.4, most_violation=0.1)  # traffic moves through what was free
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
