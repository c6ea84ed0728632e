# SPDX-License-Identifier: Apache-2.0
"""Several targets at once from trackers of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from perception_models.geometry.se3 import Matrix
from perception_models.tracking.state import TrackState

Floats = npt.NDArray[np.floating]


class OneTarget(Protocol):
    """A tracker of one target."""

    def start(self, points: Floats, box: Floats) -> None:
        """Follow what is in a box (7,) of a scan (N, >= 3)."""
        ...

    def track(self, points: Floats, ego_motion: Matrix | None = None, seconds: float = 0.1) -> TrackState:
        """Where it is in the next scan."""
        ...


class Separate:
    """Each target has a tracker of its own, made by `make(identity)`; the interface is that of MultiTracker."""

    def __init__(self, make: Callable[[str], OneTarget]) -> None:
        self._make = make
        self._trackers: dict[str, OneTarget] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        """Those that are followed."""
        return tuple(self._trackers)

    def add(self, identity: str, points: Floats, box: Floats) -> None:
        """Follow one more. Raises ValueError where it is followed already."""
        if identity in self._trackers:
            raise ValueError(f"the target '{identity}' is followed already")
        tracker = self._make(identity)
        tracker.start(points, box)
        self._trackers[identity] = tracker

    def remove(self, identity: str) -> None:
        """Follow one less. Raises ValueError where it is not followed."""
        if identity not in self._trackers:
            raise ValueError(f"no target is called '{identity}'; there is {', '.join(self._trackers) or 'none'}")
        del self._trackers[identity]

    def track(self, points: Floats, ego_motion: Matrix | None = None, seconds: float = 0.1) -> dict[str, TrackState]:
        """Where all of them are in the next scan."""
        return {identity: one.track(points, ego_motion, seconds) for identity, one in self._trackers.items()}
