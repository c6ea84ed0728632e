# SPDX-License-Identifier: Apache-2.0
"""What the map of key frames is set to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OnlineSettings:
    """Lengths in metres, times in seconds, angles in radians; the defaults suit a room and an RGB-D camera."""

    voxel: float = 0.02  # edge of a voxel
    stride: int = 2  # every so many pixels of a row and of a column become points
    min_depth: float = 0.2
    max_depth: float = 4.0  # what is farther is too coarse for voxels of this size
    depth_noise: float = 0.002  # standard deviation at 1 m; it grows with the square of the depth
    darkest: float = 12.0  # mean of an image, of 255, below which it is black
    flattest: float = 3.0  # standard deviation of an image's grey values below which it is covered
    # A new super-point becomes part of one that it touches.
    join_angle: float = 0.26  # between their mean normals
    join_color: float = 25.0  # between their mean colours, of 255 a channel
    join_limit: int = 2000  # voxels of a super-point that grows no more
    fragment: int = 100  # voxels of a super-point that becomes part of a larger one where new voxels join the two
    # What speaks against a view.
    recent_views: int = 5  # whose voxels must be seen again where they are in view
    expected: int = 300  # voxels, from which on depth is compared with the map
    agreeing: float = 0.6  # least share of the recent voxels in view that depth confirms
    misses: int = 3  # views in a row that look through a voxel before it is taken out
    # What is kept.
    keep_radius: float = 8.0  # around the camera, within which nothing is forgotten
    keep_time: float = 60.0  # for which everything is kept
    capacity: int = 600_000  # voxels; beyond, the farthest go
    smallest: int = 60  # voxels of an instance that is told of
    older: float = 0.25  # share of the largest part from which on an older instance gives a merged one its id
