# SPDX-License-Identifier: Apache-2.0
"""The trackers that nodes, evaluation and tests call: a box in one scan in, that in every later scan out. No torch."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.geometry.boxes import iou_bev
from perception_models.geometry.se3 import Matrix
from perception_models.runtime import Engine, EngineInfo, load_engine
from perception_models.tracking.preprocess import Tensors, View, prepare
from perception_models.tracking.regions import Columns
from perception_models.tracking.settings import TrackingSettings
from perception_models.tracking.state import Floats, TrackState
from perception_models.tracking.target import Target, inside

Points = npt.NDArray[np.floating]
WEIGHTS = Path(__file__).parent / "weights"
SMALLEST, LARGEST = 0.1, 30.0  # m, sides of a box
CLAIMED = 0.3  # overlap from above with which two targets are on the same object


class MultiTracker:
    """Several targets, one engine call a scan. Get one with `MultiTracker.load()`."""

    def __init__(self, engine: Engine, settings: TrackingSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.timing: dict[str, float] = {}
        self._targets: dict[str, Target] = {}

    @staticmethod
    def load(variant: str = "compact", backend: str = "auto", threads: int | None = None) -> MultiTracker:
        """Load a variant's weights: a folder name under `weights/`, or a path to a folder.

        Raises ValueError for an imported network, whose input is another.
        """
        named, folder = WEIGHTS / variant, Path(variant)
        weights = folder if folder.is_dir() and not named.is_dir() else named
        engine = load_engine(weights, backend=backend, threads=threads)
        settings = TrackingSettings.from_dict(engine.facts.settings)
        if settings.official:
            engine.close()
            raise ValueError(f"{weights} holds {settings.official}, which runs as a network only; take 'compact'")
        return MultiTracker(engine, settings)

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
        if identity in self._targets:
            raise ValueError(f"the target '{identity}' is followed already; remove it first")
        if len(self._targets) >= self.settings.capacity:
            raise ValueError(f"{self.settings.capacity} targets are followed, there is no room for more; remove one")
        checked, columns = _checked_box(box), Columns.of(_checked(points))
        if inside(columns, checked) == 0:
            raise ValueError("no point of the scan is in the box; is it in the frame of the scan?")
        self._targets[identity] = Target(columns, checked, self.settings)

    def remove(self, identity: str) -> None:
        """Follow one less. Raises ValueError where it is not followed."""
        if identity not in self._targets:
            raise ValueError(f"no target is called '{identity}'; there is {', '.join(self._targets) or 'none'}")
        del self._targets[identity]

    def track(self, points: Points, ego_motion: Matrix | None = None, seconds: float = 0.1) -> dict[str, TrackState]:
        """Where all of them are in the next scan.

        ego_motion (4, 4): pose of this scan's frame in the frame of the scan before, None where it is not known;
        seconds since the scan before. Raises ValueError where an argument cannot be used.
        """
        clock = [time.perf_counter()]
        columns = Columns.of(_checked(points))
        _check_motion(ego_motion, seconds)
        if not self._targets:
            return {}
        views = self._look(columns, ego_motion, seconds)
        clock.append(time.perf_counter())
        tensors = prepare([view for group in views.values() for view in group], self.settings)
        clock.append(time.perf_counter())
        outputs = self._infer(tensors)
        clock.append(time.perf_counter())
        states = self._settle(views, outputs, columns)
        clock.append(time.perf_counter())
        names = ("crop", "preprocess", "inference", "postprocess")
        self.timing = {name: 1e3 * (b - a) for name, a, b in zip(names, clock, clock[1:], strict=False)}
        return states

    def _look(self, columns: Columns, ego_motion: Matrix | None, seconds: float) -> dict[str, list[View]]:
        """The views of all targets; those that are lost share the room that is left."""
        for target in self._targets.values():
            target.predict(seconds, ego_motion)
        lost = sum(target.lost for target in self._targets.values())
        room = (self.settings.capacity - len(self._targets)) // max(lost, 1)
        return {name: target.views(columns, 1 + room) for name, target in self._targets.items()}

    def _infer(self, tensors: Tensors) -> dict[str, npt.NDArray[np.floating]]:
        """The network's outputs, the score as a probability."""
        count = len(tensors["context"])
        if self.engine.pads_to_capacity:
            tensors = {name: _padded(array, self.settings.capacity) for name, array in tensors.items()}
        outputs = {name: array[:count] for name, array in self.engine(**tensors).items()}
        logit = self.settings.score_scale * outputs["score"][:, 0] + self.settings.score_shift
        return {**outputs, "score": 1.0 / (1.0 + np.exp(-logit))}

    def _settle(
        self, views: dict[str, list[View]], outputs: dict[str, npt.NDArray[np.floating]], columns: Columns
    ) -> dict[str, TrackState]:
        states, start = {}, 0
        for name, group in views.items():
            rows = slice(start, start + len(group))
            own = {output: array[rows] for output, array in outputs.items()}
            states[name] = self._targets[name].settle(group, own, columns)
            start += len(group)
        return self._without_doubles(states)

    def _without_doubles(self, states: dict[str, TrackState]) -> dict[str, TrackState]:
        """Of two targets on one object, the one with the lower score is lost."""
        claimed: list[Floats] = []
        for name in sorted(states, key=lambda name: -states[name].score):
            state = states[name]
            if state.lost:
                continue
            if claimed and iou_bev(state.box[None], np.stack(claimed)).max() > CLAIMED:
                states[name] = self._targets[name].lose(state.score, "another target is where it seems to be")
            else:
                claimed.append(state.box)
        return states

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

        Raises ValueError, saying what is wrong, where points or box cannot be used; what was followed is followed on.
        """
        following = MultiTracker(self._tracker.engine, self._tracker.settings)
        following.add(self.NAME, points, box)
        self._tracker = following

    def track(self, points: Points, ego_motion: Matrix | None = None, seconds: float = 0.1) -> TrackState:
        """Where it is in the next scan; arguments as of `MultiTracker.track`. Raises ValueError before `start`."""
        if not self._tracker.targets:
            raise ValueError("nothing is followed; call start(points, box) first")
        return self._tracker.track(points, ego_motion, seconds)[self.NAME]

    def close(self) -> None:
        """Free the engine; the tracker cannot be used afterwards."""
        self._tracker.close()


def _checked(points: Points) -> Points:
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind != "f":
        got = f"{points.dtype} {points.shape}" if isinstance(points, np.ndarray) else type(points).__name__
        raise ValueError(f"points must be a float array (N, 3 or more) of x y z, got {got}")
    return points


def _checked_box(box: Points) -> Floats:
    checked = np.asarray(box, np.float32)
    if checked.shape != (7,):
        raise ValueError(f"a box has 7 values, x y z length width height yaw; got shape {checked.shape}")
    if not np.isfinite(checked).all():
        raise ValueError(f"the box {checked.tolist()} has a value that is not finite")
    if (checked[3:6] < SMALLEST).any() or (checked[3:6] > LARGEST).any():
        raise ValueError(
            f"a box has sides of {SMALLEST} to {LARGEST} m; length, width, height are {checked[3:6].tolist()}"
        )
    return checked


def _check_motion(ego_motion: Matrix | None, seconds: float) -> None:
    if ego_motion is not None and (np.shape(ego_motion) != (4, 4) or not np.isfinite(ego_motion).all()):
        raise ValueError(
            "ego_motion must be a finite (4, 4) pose of this scan in the frame of the scan before, or None"
        )
    if not 0 < seconds < np.inf:
        raise ValueError(f"seconds since the scan before must be positive, got {seconds}")


def _padded(array: npt.NDArray[np.generic], length: int) -> npt.NDArray[np.generic]:
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])
