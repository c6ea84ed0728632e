# SPDX-License-Identifier: Apache-2.0
"""The trackers that nodes, evaluation and tests call: a box in one scan in, the box in every later scan out. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.geometry.se3 import Matrix
from perception_models.runtime import Engine, EngineInfo, load_engine
from perception_models.tracking.state import Floats, TrackState

Points = npt.NDArray[np.floating]
WEIGHTS = Path(__file__).parent / "weights"


@dataclass
class Target:
    """What is remembered of a target between scans."""

    box: Floats


class MultiTracker:
    """Several targets, one engine call a scan. Get one with `MultiTracker.load()`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.timing: dict[str, float] = {}
        self._targets: dict[str, Target] = {}

    @staticmethod
    def load(variant: str = "compact", backend: str = "auto", threads: int | None = None) -> MultiTracker:
        """Load a variant's weights: a folder name under `weights/`, or a path to a folder."""
        named, folder = WEIGHTS / variant, Path(variant)
        weights = folder if folder.is_dir() and not named.is_dir() else named
        return MultiTracker(load_engine(weights, backend=backend, threads=threads))

    @property
    def engine_info(self) -> EngineInfo:
        """Backend and precision that really run."""
        return self.engine.info

    @property
    def targets(self) -> tuple[str, ...]:
        """Those that are followed."""
        return tuple(self._targets)

    def add(self, identity: str, points: Points, box: Points) -> None:
        """Follow what is in a box (7,) of a scan (N, >= 3) float32, m, sensor frame.

        Raises ValueError where points or box cannot be used, the identity is followed already or there is no room;
        the others are followed on.
        """
        raise NotImplementedError

    def remove(self, identity: str) -> None:
        """Follow one less. Raises ValueError where it is not followed."""
        raise NotImplementedError

    def track(self, points: Points, ego_motion: Matrix | None = None, seconds: float = 0.1) -> dict[str, TrackState]:
        """Where all of them are in the next scan.

        ego_motion (4, 4): pose of this scan's frame in the frame of the scan before, None where it is not known;
        seconds since the scan before.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Free the engine; the tracker cannot be used afterwards."""
        self.engine.close()


class Tracker:
    """One target. Get one with `Tracker.load()`."""

    NAME = "target"

    def __init__(self, tracker: MultiTracker) -> None:
        self._tracker = tracker

    @staticmethod
    def load(variant: str = "compact", backend: str = "auto", threads: int | None = None) -> Tracker:
        """Load a variant's weights: a folder name under `weights/`, or a path to a folder."""
        return Tracker(MultiTracker.load(variant, backend, threads))

    @property
    def engine_info(self) -> EngineInfo:
        """Backend and precision that really run."""
        return self._tracker.engine_info

    @property
    def timing(self) -> dict[str, float]:
        """Milliseconds of each stage of the last call of `track`."""
        return self._tracker.timing

    def start(self, points: Points, box: Points) -> None:
        """Follow what is in a box (7,) of a scan (N, >= 3), instead of what was followed before.

        Raises ValueError, saying what is wrong, where points or box cannot be used.
        """
        raise NotImplementedError

    def track(self, points: Points, ego_motion: Matrix | None = None, seconds: float = 0.1) -> TrackState:
        """Where it is in the next scan; arguments as of `MultiTracker.track`."""
        return self._tracker.track(points, ego_motion, seconds)[self.NAME]

    def close(self) -> None:
        """Free the engine; the tracker cannot be used afterwards."""
        self._tracker.close()
