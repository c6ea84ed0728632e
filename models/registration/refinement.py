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


def refine(transform: Matrix, source: Cloud, target: Cloud, reach: float, iterations: int, threads: int = 1) -> Refined:
    """Refine with partners within `reach` (m). Where none are found, the transform comes back with 0 inliers."""
    if not len(source) or not len(target):
        return Refined(transform, 0, float("inf"), np.zeros((6, 6)))  # an empty target would crash small_gicp
    result = small_gicp.align(
        target.gicp_cloud,
        source.gicp_cloud,
        target.gicp_tree,
        transform,
        registration_type="PLANE_ICP",
        max_correspondence_distance=reach,
        max_iterations=iterations,
        num_threads=threads,
    )
    inliers = int(result.num_inliers)
    if not inliers or not np.isfinite(result.T_target_source).all():
        return Refined(transform, 0, float("inf"), np.zeros((6, 6)))
    found = np.asarray(result.T_target_source, np.float64)
    exact = se3.make(se3.nearest_rotation(found[:3, :3]), found[:3, 3])
    return Refined(exact, inliers, float(np.sqrt(2 * result.error / inliers)), np.asarray(result.H, np.float64))
