# SPDX-License-Identifier: Apache-2.0
"""Lengths and limits of odometry: one preset for spinning LiDARs outdoors, one for depth sensors in rooms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OdometrySettings:
    """How a scan is thinned and matched to the map, and when a match is believed. Metres, seconds, radians."""

    min_range: float = 1.0  # nearer points are the robot itself
    max_range: float = 100.0
    spacing: float = 0.6  # a scan keeps one point in each cube of this side
    voxel: float = 1.0  # of the map; each holds the mean and the covariance of its points
    coarse_voxel: float = 4.0  # of a second map, for when the first does not hold the scan
    reach: float = 0.5  # between a point and the mean of its voxel, at most, to count as matched
    neighbours: int = 10  # of a point, for its covariance
    threads: int = 1

    min_points: int = 100  # of a thinned scan
    min_matched: float = 0.5  # share of a scan's points; scans seen off their place match 0.45 at most
    min_constraint: float = 1.0  # stiffness against the weakest translation a matched point; a bare plane has 0.5
    max_speed: float = 60.0  # m/s
    max_turn: float = 4.0  # rad/s

    step: float = 0.1  # a scan joins the map when the sensor moved this far since the last one that did
    turn: float = 0.02  # or turned this far
    horizon: int = 100  # voxels that none of this many joined scans saw are forgotten
    keyframe_step: float = 2.0  # a whole scan is kept for recovery every so many metres
    keyframes: int = 3
    period: float = 0.1  # from scan to scan, where no stamps are given
    memory: float = 1.0  # a velocity older than this predicts nothing


LIDAR_ODOMETRY = OdometrySettings()
INDOOR_ODOMETRY = OdometrySettings(
    min_range=0.3,
    max_range=12.0,
    spacing=0.06,
    voxel=0.12,
    coarse_voxel=0.5,
    reach=0.06,
    max_speed=5.0,
    step=0.03,
    keyframe_step=0.3,
)
ODOMETRY_SCALES = {"lidar": LIDAR_ODOMETRY, "indoor": INDOOR_ODOMETRY}
