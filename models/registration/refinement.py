# SPDX-License-Identifier: Apache-2.0
"""A coarse transform made exact by point-to-plane ICP (Chen and Medioni, 1992) of small_gicp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import small_gicp

from perception_models.geometry import se3
from perception_models.registration.preprocess import Cloud

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Refined:
    """transform (4, 4) source -> target; inliers: points with a partner in reach; residual: root of the mean squared
    distance to their partners' planes, m; information (6, 6) of a motion of the source in its own frame, rotation (rad)
    before translation (m), for residuals of 1 m."""

    transform: Matrix
    inliers: int
    residual: float
    information: Matrix


def refine_roughly(transform: Matrix, source: Cloud, target: Cloud) -> Matrix:
    """The transform (4, 4) refined by some of the source's points; as it was where it brings no points together.

    The reach is short: where clouds overlap little, a long one finds partners for what the other never saw, and pulls
    a good hypothesis away (3 times as long, and a fourth of the low-overlap pairs was lost).
    """
    reach = source.settings.tolerance * source.settings.voxel
    result = _align(transform, source.gicp_sample, target, reach, 10)
    return _rigid(result.T_target_source) if result.num_inliers else transform


def refine(transform: Matrix, source: Cloud, target: Cloud) -> Refined:
    """Refine by all points. Where none are found in reach, the transform comes back with 0 inliers."""
    reach = source.settings.tolerance * source.settings.voxel
    result = _align(transform, source.gicp_cloud, target, reach, 20)
    inliers = int(result.num_inliers)
    if not inliers:
        return Refined(transform, 0, float("inf"), np.zeros((6, 6)))
    residual = float(np.sqrt(2 * result.error / inliers))
    return Refined(_rigid(result.T_target_source), inliers, residual, np.asarray(result.H, np.float64))


def _align(
    transform: Matrix, source: small_gicp.PointCloud, target: Cloud, reach: float, iterations: int
) -> small_gicp.RegistrationResult:
    if not source.size() or not len(target):
        raise ValueError("an empty cloud cannot be refined; small_gicp would end the process")
    return small_gicp.align(
        target.gicp_cloud,
        source,
        target.gicp_tree,
        transform,
        registration_type="PLANE_ICP",
        max_correspondence_distance=reach,
        max_iterations=iterations,
        num_threads=1,
    )


def _rigid(matrix: Matrix) -> Matrix:
    """A rigid transform (4, 4), exact to the last digit."""
    return se3.make(se3.nearest_rotation(matrix[:3, :3]), matrix[:3, 3])
