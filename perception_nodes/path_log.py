# SPDX-License-Identifier: Apache-2.0
"""The way of something, as RViz draws it."""

from __future__ import annotations

from collections import deque

import numpy as np
from geometry_msgs.msg import Point, PoseStamped
from nav_msgs.msg import Path
from numpy.typing import NDArray
from std_msgs.msg import Header

from perception_models.geometry import se3
from perception_nodes.messages import encode_pose


class PathLog:
    """The way so far: a pose every `step` m, the oldest forgotten beyond `count`."""

    def __init__(self, step: float, count: int) -> None:
        self._step = step
        self._poses: deque[PoseStamped] = deque(maxlen=count)
        self._last: NDArray[np.float64] | None = None

    def add(self, pose: se3.Matrix, header: Header) -> bool:
        """Whether the pose was far enough from the last one to be added."""
        if self._last is not None and np.linalg.norm(pose[:3, 3] - self._last) < self._step:
            return False
        self._last = pose[:3, 3].copy()
        self._poses.append(PoseStamped(header=header, pose=encode_pose(pose)))
        return True

    @property
    def positions(self) -> list[Point]:
        """Where it was, oldest first."""
        return [stamped.pose.position for stamped in self._poses]

    def message(self, header: Header) -> Path:
        """All of it."""
        return Path(header=header, poses=list(self._poses))
