# SPDX-License-Identifier: Apache-2.0
"""From the world of views, which is the frame of their first camera, to the map's frame, and the way of base_link."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix
from perception_models.reconstruction import View
from perception_models.registration.deskew import velocity_of
from perception_nodes.registration_frames import Placed

# Optical axes (z forward, y down) to those of REP-103 (x forward, z up).
UPRIGHT = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
UNKNOWN = 1e-3  # s; a velocity over so short a time has a covariance that says that nobody knows it


class Course:
    """Where views stand in the map, whose origin is where base_link stood when the first image of a world was taken,
    and how fast base_link moves from view to view."""

    def __init__(self) -> None:
        self._origin: Matrix | None = None
        self._last: tuple[Matrix, int] | None = None

    def moved(self, view: View, mount: Matrix | None) -> View:
        """A view in the map's frame; `mount` (4, 4) takes points of the camera to base_link. None: there is no
        base_link, and the map lies upright before the first camera."""
        if self._origin is None:
            self._origin = UPRIGHT if mount is None else mount
        points = se3.apply(self._origin, view.points).astype(np.float32)
        return replace(view, points=points, pose=self._origin @ view.pose)

    def follow(self, pose: Matrix, stamp: int, covariance: Matrix) -> tuple[Placed, float]:
        """base_link, or the camera, at a pose (4, 4) in the map and a stamp (ns), with its velocity since the last
        pose, and the seconds since."""
        velocity, seconds = np.zeros(6), UNKNOWN
        if self._last is not None and stamp > self._last[1]:
            seconds = (stamp - self._last[1]) * 1e-9
            velocity = velocity_of(se3.inverse(self._last[0]) @ pose, seconds)
        self._last = pose, stamp
        return Placed(pose, covariance, velocity), seconds


def require_finite_view(view: View, least: float) -> None:
    """Raises ValueError where something of a valid view that would be published is not finite."""
    sure = view.confident(least)
    parts: dict[str, NDArray[np.floating]] = {
        "pose": view.pose,
        "camera": view.camera_matrix,
        "points": view.points[sure],
        "depth": view.depth[sure],
    }
    if wrong := [name for name, values in parts.items() if not np.isfinite(values).all()]:
        raise ValueError(f"the view holds values that are not finite: {', '.join(wrong)}")
