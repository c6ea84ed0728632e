# SPDX-License-Identifier: Apache-2.0
"""One scan on its way to a map: what is usable of it, then what stands for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import small_gicp

from perception_models.registration.odometry_settings import OdometrySettings

Floats = npt.NDArray[np.float32]


class Scan(NamedTuple):
    """points (N, 3) float32 m in the sensor's frame, times (N,) float32 s since the stamp where they are known."""

    points: Floats
    times: Floats | None


def scan_of(
    points: npt.NDArray[np.floating], times: npt.NDArray[np.floating] | None, settings: OdometrySettings
) -> Scan:
    """The finite points in range, with their times; one instant for all of them tells nothing and is left out.

    Raises ValueError for shapes other than (N, 3) and (N,), or times that are not finite.
    """
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind != "f":
        raise ValueError(f"points must be an array (N, 3) of float x y z in metres, got {points.dtype} {points.shape}")
    if times is not None and (times.shape != points.shape[:1] or not np.isfinite(times).all()):
        raise ValueError(f"times must be {len(points)} finite seconds since the stamp, one a point")
    square = np.einsum("ni,ni->n", points, points)  # not a number, or infinite, where the point is
    near = (square >= settings.min_range**2) & (square <= settings.max_range**2)
    kept = np.asarray(points[near], np.float32)
    if times is None or not near.any() or np.ptp(times[near]) == 0:
        return Scan(kept, None)
    return Scan(kept, np.asarray(times[near], np.float32))


def thinned(points: Floats, settings: OdometrySettings) -> small_gicp.PointCloud:
    """One point a cube of `spacing`, with the covariance of its neighbourhood."""
    thin = small_gicp.voxelgrid_sampling(small_gicp.PointCloud(points.astype(np.float64)), settings.spacing)
    small_gicp.estimate_covariances(thin, None, settings.neighbours, settings.threads)
    return thin
