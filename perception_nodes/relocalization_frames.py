# SPDX-License-Identifier: Apache-2.0
"""From a camera's pose in the map to base_link's, and to the transform map -> odom (REP-105)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builtin_interfaces.msg import Time

from perception_models.geometry import se3
from perception_models.relocalization import Fix
from perception_nodes.errors import NoResult
from perception_nodes.stamps import nanoseconds
from perception_nodes.transform_buffer import TransformUnavailable
from perception_nodes.transforms import Broadcaster, Transforms


def moved(fix: Fix, offset: se3.Matrix) -> Fix:
    """The pose of a frame that is fixed to the camera: `offset` (4, 4) takes its points to the camera's frame.

    The covariance's rotation is about the map's axes, so turning the camera by a small angle shifts the frame across
    its lever arm.
    """
    pose = fix.pose @ offset
    x, y, z = pose[:3, 3] - fix.pose[:3, 3]
    spread = np.eye(6)
    spread[:3, 3:] = [[0, z, -y], [-z, 0, x], [y, -x, 0]]
    return replace(fix, pose=pose, covariance=spread @ fix.covariance @ spread.T)


class MapToOdom:
    """The transform map -> odom, by which odometry is corrected: kept from fix to fix, sent at every image.

    odom -> base_link stays the odometry's; base_link gets no second parent, and odom none where it has one already.
    """

    def __init__(self, transforms: Transforms, broadcaster: Broadcaster, map_frame: str, odom_frame: str) -> None:
        self._transforms, self._broadcaster = transforms, broadcaster
        self._map_frame, self._odom_frame = map_frame, odom_frame
        self._pose: se3.Matrix | None = None
        self._is_ours = False

    def correct(self, base_pose: se3.Matrix, base_frame: str, stamp: Time, timeout: float) -> None:
        """Takes in where base_link is in the map (4, 4) at a stamp.

        Raises TransformUnavailable where odometry says nothing of that stamp, NoResult where odom has a parent.
        """
        if not self._is_ours and self._has_parent():
            raise NoResult(
                f"another node publishes '{self._map_frame}' -> '{self._odom_frame}'; stop it, or set publish_tf false"
            )
        base_in_odom = self._transforms.lookup(self._odom_frame, base_frame, stamp, timeout)
        is_first = self._pose is None
        self._pose, self._is_ours = base_pose @ se3.inverse(base_in_odom), True
        if is_first:
            self.send(stamp, 0.0)  # so that look-ups of this moment are answered too

    def send(self, stamp: Time, ahead: float) -> None:
        """Sends what is known, valid until `ahead` seconds after the stamp, so that look-ups need not wait for us."""
        if self._pose is not None:
            self._broadcaster.send(self._pose, self._map_frame, self._odom_frame, later(stamp, ahead))

    def forget(self) -> None:
        """Sends no more until the next correction."""
        self._pose = None

    def _has_parent(self) -> bool:
        try:
            self._transforms.lookup(self._map_frame, self._odom_frame, Time())
        except TransformUnavailable:
            return False
        return True


def later(stamp: Time, seconds: float) -> Time:
    """The stamp, moved on by some seconds."""
    moment = nanoseconds(stamp) + round(seconds * 1e9)
    return Time(sec=moment // 10**9, nanosec=moment % 10**9)
