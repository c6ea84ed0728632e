# SPDX-License-Identifier: Apache-2.0
"""Odometries that are measured side by side: ours, KISS-ICP (Vizzo et al., RA-L 2023), and scan to scan by small_gicp.

A method is called with each scan, points (N, 3) float32 m and times (N,) s or None, and returns the pose (4, 4) of the
sensor in the frame of the first scan, NaN where it has none. Baselines are imported when they run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.registration.odometry import Odometry
from perception_models.registration.odometry_settings import LIDAR_ODOMETRY

Points = NDArray[np.float32]
Times = NDArray[np.floating] | None
Method = Callable[[Points, Times, float], se3.Matrix]  # points, times, stamp in s

SPACING = 0.25  # m, of scan to scan


def ours(threads: int) -> Method:
    """Scan to local map, without a registrar: what was lost would stay lost."""
    odometry = Odometry(replace(LIDAR_ODOMETRY, threads=threads))
    return lambda points, times, stamp: odometry.update(points, times, stamp).pose


def kiss_icp(threads: int) -> Method:
    """KISS-ICP as it comes; sweeps are straightened where points have times. It takes all cores for any `threads`."""
    from kiss_icp.config.parser import load_config
    from kiss_icp.kiss_icp import KissICP

    pipelines: dict[bool, KissICP] = {}

    def follow(points: Points, times: Times, stamp: float) -> se3.Matrix:
        timed = times is not None
        if timed not in pipelines:
            config = load_config(None)
            config.data.deskew = timed
            pipelines[timed] = KissICP(config=config)
        pipelines[timed].register_frame(points.astype(np.float64), np.empty(0) if times is None else times)
        return np.array(pipelines[timed].last_pose)

    return follow


class ScanToScan:
    """GICP of each scan to the one before, from the motion before."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._last: tuple[object, object] | None = None
        self._pose, self._motion = np.eye(4), np.eye(4)

    def __call__(self, points: Points, times: Times, stamp: float) -> se3.Matrix:
        """The next scan; times are not used."""
        import small_gicp

        cloud, tree = small_gicp.preprocess_points(points.astype(np.float64), SPACING, num_threads=self._threads)
        if self._last is not None:
            found = small_gicp.align(
                self._last[0], cloud, self._last[1], self._motion, max_correspondence_distance=1.0,
                num_threads=self._threads,
            )  # fmt: skip
            turn = se3.nearest_rotation(found.T_target_source[:3, :3])
            self._motion = se3.make(turn, found.T_target_source[:3, 3])
            self._pose = self._pose @ self._motion
        self._last = cloud, tree
        return self._pose


METHODS: dict[str, Callable[[int], Method]] = {"ours": ours, "KISS-ICP": kiss_icp, "small_gicp": ScanToScan}
