# SPDX-License-Identifier: Apache-2.0
"""Which frames registration stands between: where the sensor is mounted, and what is sent of where base_link is."""

from __future__ import annotations

import numpy as np
from std_msgs.msg import Header

from perception_models.geometry import se3
from perception_nodes.errors import NoResult
from perception_nodes.relocalization_frames import MapToOdom
from perception_nodes.transforms import Broadcaster, Transforms


class FrameLinks:
    """In odometry it sends odom -> base. In a map another node's odometry keeps that, and map -> odom corrects it: a
    frame has one parent (REP-105); without an odom frame it sends map -> base. Without a base frame base is the sensor.
    """

    def __init__(
        self, transforms: Transforms, broadcaster: Broadcaster, fixed_frame: str, odom_frame: str, base_frame: str
    ) -> None:
        self.fixed_frame = fixed_frame
        self._base_frame = base_frame
        self._transforms, self._broadcaster = transforms, broadcaster
        is_corrected = odom_frame not in ("", fixed_frame)
        self._correction = MapToOdom(transforms, broadcaster, fixed_frame, odom_frame) if is_corrected else None

    def base_of(self, header: Header) -> str:
        """The frame whose pose is given."""
        return self._base_frame or str(header.frame_id)

    def mount(self, header: Header, timeout: float) -> se3.Matrix:
        """Transform (4, 4) of the sensor's points to base. Raises TransformUnavailable."""
        base = self.base_of(header)
        if base == header.frame_id:
            return np.eye(4)
        return self._transforms.lookup(base, header.frame_id, header.stamp, timeout)

    def send(self, pose: se3.Matrix, header: Header, timeout: float, ahead: float) -> str:
        """Sends that base is at a pose (4, 4) in the fixed frame; a correction holds `ahead` seconds, and is sent also
        where it could not be renewed. Returns why not, else an empty text."""
        base, complaint = self.base_of(header), ""
        if self._correction is None:
            self._broadcaster.send(pose, self.fixed_frame, base, header.stamp)
            return complaint
        try:
            self._correction.correct(pose, base, header.stamp, timeout)
        except NoResult as error:
            complaint = f"the correction of odometry is not renewed: {error}"
        self._correction.send(header.stamp, ahead)
        return complaint

    def forget(self) -> None:
        """Sends no correction until there is a new one."""
        if self._correction is not None:
            self._correction.forget()
