# SPDX-License-Identifier: Apache-2.0
"""Which images of a moving camera are worth remembering."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from perception_models.geometry import se3


class KeyLimits(Protocol):
    """The parameters by which they are chosen; the first that is reached makes one, 0 takes every image."""

    @property
    def key_distance(self) -> float:
        """Metres of way."""
        ...

    @property
    def key_angle(self) -> float:
        """Radians of turning."""
        ...

    @property
    def key_time(self) -> float:
        """Seconds."""
        ...


class KeyFrames:
    """Chooses images by the way, the turning and the time since the last that was taken."""

    def __init__(self) -> None:
        self._last: tuple[se3.Matrix, int] | None = None

    def wants(self, pose: se3.Matrix, stamp: int, p: KeyLimits) -> bool:
        """Whether the image of a pose (4, 4) and a stamp (ns) is worth it."""
        if self._last is None:
            return True
        step = se3.inverse(self._last[0]) @ pose
        seconds = (stamp - self._last[1]) * 1e-9
        far = float(np.linalg.norm(step[:3, 3])) >= p.key_distance
        return bool(far or se3.rotation_angle(step) >= p.key_angle or seconds >= p.key_time)

    def took(self, pose: se3.Matrix, stamp: int) -> None:
        """It became one."""
        self._last = pose, stamp
