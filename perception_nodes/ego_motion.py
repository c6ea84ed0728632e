# SPDX-License-Identifier: Apache-2.0
"""How a sensor moved from cloud to cloud, by TF, and boxes brought from one header's frame and time to another's."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from std_msgs.msg import Header

from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_nodes.errors import NoResult
from perception_nodes.transform_buffer import TransformUnavailable
from perception_nodes.transforms import Transforms

Box = NDArray[np.floating]


class EgoMotion:
    """`fixed_frame` stands still in the world; where it is empty or not in TF, the motion is not known.

    `says` is one line on where the motion comes from.
    """

    def __init__(self, transforms: Transforms, fixed_frame: str, timeout: float) -> None:
        self._transforms, self.fixed_frame, self._timeout = transforms, fixed_frame, timeout
        self._joined: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """The next cloud is the first."""
        self._pose: se3.Matrix | None = None
        self.says = "no cloud yet"

    def place(self, header: Header) -> tuple[str, se3.Matrix] | None:
        """The frame that stands still, and the pose (4, 4) of the last cloud's frame in it; None where it is not known.

        Where no fixed frame is set, the sensor itself stands still.
        """
        if not self.fixed_frame:
            return header.frame_id, np.eye(4)
        return None if self._pose is None else (self.fixed_frame, self._pose)

    def next(self, header: Header) -> se3.Matrix | None:
        """Pose (4, 4) of a cloud's frame in that of the cloud before; None where it is not known."""
        before, self._pose = self._pose, None
        try:
            self._pose = self._lookup(header)
            self.says = f"TF, in '{self.fixed_frame}'"
        except NoResult as error:
            self.says = f"not known: {error}"
        return None if before is None or self._pose is None else se3.inverse(before) @ self._pose

    def bring(self, box: Box, source: Header, target: Header) -> Box:
        """A box (7,) of one frame and time in another frame at another time, its object standing still in between.

        Raises TransformUnavailable where TF does not join the two; where only the time differs and the motion of the
        sensor is not known, the box stays as it is.
        """
        if source == target:
            return box
        try:
            move = se3.inverse(self._lookup(target)) @ self._lookup(source)
        except TransformUnavailable:
            if source.frame_id == target.frame_id:
                return box
            move = self._directly(source, target)
        return np.asarray(transform_boxes(np.asarray(box, float)[None], move)[0])

    def _directly(self, source: Header, target: Header) -> se3.Matrix:
        """Where no fixed frame helps: the transform between the two frames."""
        frames = f"the box is in the frame '{source.frame_id}', the clouds are in '{target.frame_id}'"
        try:
            return self._transforms.lookup(target.frame_id, source.frame_id, target.stamp, self._timeout)
        except TransformUnavailable as error:
            raise TransformUnavailable(f"{frames}: {error}") from None

    def _lookup(self, header: Header) -> se3.Matrix:
        """Waits only where the frames are known to be joined: without odometry no scan shall be late."""
        if not self.fixed_frame:
            raise TransformUnavailable("no fixed_frame is set")
        frame = header.frame_id
        if frame not in self._joined:
            self._transforms.lookup(self.fixed_frame, frame, Time())
            self._joined.add(frame)
        return self._transforms.lookup(self.fixed_frame, frame, header.stamp, self._timeout)
