# SPDX-License-Identifier: Apache-2.0
"""Runs any tracker over labelled scans, one pass: each target is given once, and nobody helps it afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.tracking import TrackResult
from perception_models.geometry import se3
from perception_models.geometry.boxes import iou_3d, points_in_boxes

Floats = NDArray[np.floating]

FEWEST = 10  # points in its box with which a target is given
GONE = 2.0  # s without a point after which a target is followed no longer
AT_ONCE = 8  # targets of one tracker; more take another run over the scans


@dataclass(frozen=True)
class LabelledScan:
    """points (N, >= 3) m in the sensor's frame; boxes (7,) of what stands there, by identity; pose (4, 4), sensor ->
    world, where it is known. `seconds` count from any moment."""

    seconds: float
    points: Floats
    boxes: Mapping[str, Floats]
    pose: se3.Matrix | None = None
    categories: Mapping[str, str] = field(default_factory=dict)


class State(Protocol):
    """What a tracker says of a target."""

    @property
    def box(self) -> Floats:
        """(7,) in the frame of the scan."""
        ...

    @property
    def lost(self) -> bool:
        """Whether it knows that it does not see the target."""
        ...


class AnyTracker(Protocol):
    """What is judged; MultiTracker and the baselines are such."""

    def add(self, identity: str, points: Floats, box: Floats) -> None:
        """Start a target."""
        ...

    def remove(self, identity: str) -> None:
        """Forget a target."""
        ...

    def track(self, points: Floats, ego_motion: se3.Matrix | None, seconds: float) -> Mapping[str, State]:
        """The states of all targets in the next scan."""
        ...


@dataclass(frozen=True)
class Target:
    """An object to be followed: given in scan `start`, judged up to scan `stop`, included."""

    identity: str
    category: str
    start: int
    stop: int


@dataclass(frozen=True)
class Answer:
    """box (7,) of a target in a scan; NaN where there is none."""

    box: Floats
    lost: bool


NO_ANSWER = Answer(np.full(7, np.nan), True)


def find_targets(scans: Iterable[LabelledScan], fewest: int = FEWEST) -> tuple[list[Target], dict[str, dict[int, int]]]:
    """Each object from its first scan with so many points, to its last one with a point or a gap of GONE before; and
    the points in the boxes, by identity and scan."""
    counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
    categories: dict[str, str] = {}
    seconds = []
    for index, scan in enumerate(scans):
        seconds.append(scan.seconds)
        categories |= {identity: scan.categories.get(identity, "object") for identity in scan.boxes}
        if scan.boxes:
            inside = points_in_boxes(scan.points, np.array(list(scan.boxes.values()))).sum(axis=0)
            for identity, count in zip(scan.boxes, inside.tolist(), strict=True):
                counts[identity][index] = count
    found = [_target(identity, categories[identity], row, seconds, fewest) for identity, row in counts.items()]
    return [one for one in found if one is not None], dict(counts)


def _target(
    identity: str, category: str, counts: Mapping[int, int], seconds: Sequence[float], fewest: int
) -> Target | None:
    start = next((index for index, count in counts.items() if count >= fewest), None)
    if start is None:
        return None
    stop = start
    for index, count in counts.items():
        if index > stop and count > 0 and seconds[index] - seconds[stop] <= GONE:
            stop = index
    return Target(identity, category, start, stop) if stop > start else None


def follow(
    tracker: AnyTracker,
    scans: Iterable[LabelledScan],
    targets: Sequence[Target],
    at_once: int = AT_ONCE,
    after: Callable[[], None] = lambda: None,
) -> dict[str, dict[int, Answer]]:
    """Answers by identity and scan.

    `scans` can be iterated over again: a run for every `at_once` targets that overlap in time. `after` is called after
    each call of `track` but the first of a run. The tracker has no targets before, and none afterwards.
    """
    waiting, answers = sorted(targets, key=lambda one: one.start), dict[str, dict[int, Answer]]()
    while waiting:
        run = _Run(tracker, waiting, at_once, after)
        for index, scan in enumerate(scans):
            run.next(index, scan)
            if run.is_over(index):
                break
        run.end()
        answers |= run.answers
        waiting = [one for one in waiting if one.identity not in run.answers]
    return answers


class _Run:
    """One run over the scans with as many targets as there is room for."""

    def __init__(self, tracker: AnyTracker, targets: Sequence[Target], at_once: int, after: Callable[[], None]) -> None:
        self._tracker, self._targets, self._at_once, self._after = tracker, targets, at_once, after
        self._running: dict[str, Target] = {}
        self._before: LabelledScan | None = None
        self._calls = 0
        self.answers: dict[str, dict[int, Answer]] = {}

    def next(self, index: int, scan: LabelledScan) -> None:
        """Track what runs, end what is over, start what begins."""
        if self._running and self._before is not None:
            ego, seconds = ego_motion(self._before, scan), scan.seconds - self._before.seconds
            for identity, state in self._tracker.track(scan.points, ego, seconds).items():
                self.answers[identity][index] = Answer(np.array(state.box, float), bool(state.lost))
            if self._calls:
                self._after()
            self._calls += 1
        self._before = scan
        for identity in [one.identity for one in self._running.values() if one.stop <= index]:
            self._remove(identity)
        for target in self._targets:
            if target.start == index and len(self._running) < self._at_once:
                self._start(target, index, scan)

    def is_over(self, index: int) -> bool:
        """Whether nothing runs and nothing is to begin."""
        return not self._running and all(one.start <= index for one in self._targets)

    def end(self) -> None:
        """Forget what still runs."""
        for identity in list(self._running):
            self._remove(identity)

    def _start(self, target: Target, index: int, scan: LabelledScan) -> None:
        box = np.asarray(scan.boxes[target.identity], np.float32)
        self._tracker.add(target.identity, scan.points, box)
        self._running[target.identity] = target
        self.answers[target.identity] = {index: Answer(box.astype(float), False)}

    def _remove(self, identity: str) -> None:
        self._tracker.remove(identity)
        del self._running[identity]


def ego_motion(before: LabelledScan, scan: LabelledScan) -> se3.Matrix | None:
    """Pose (4, 4) of the frame of a scan in that of the scan before; None where it is not known."""
    if before.pose is None or scan.pose is None:
        return None
    return se3.inverse(before.pose) @ scan.pose


def judge(
    scans: Iterable[LabelledScan],
    targets: Sequence[Target],
    answers: Mapping[str, Mapping[int, Answer]],
    counts: Mapping[str, Mapping[int, int]],
) -> list[TrackResult]:
    """The answers beside the truth, in the scans that have a truth of the target; no answer counts as lost."""
    rows: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    for index, scan in enumerate(scans):
        for target in targets:
            if target.start <= index <= target.stop and target.identity in scan.boxes:
                answer = answers.get(target.identity, {}).get(index, NO_ANSWER)
                measured = _compare(answer, target.identity, scan)
                rows[target.identity].append((scan.seconds, *measured, counts[target.identity][index]))
    return [_result(target, np.array(rows[target.identity])) for target in targets]


def _compare(answer: Answer, identity: str, scan: LabelledScan) -> tuple[float, float, float, float]:
    """Overlap with the truth, distance to it, overlap with another object, whether lost."""
    if not np.isfinite(answer.box).all():
        return 0.0, np.inf, 0.0, 1.0
    own = np.asarray(scan.boxes[identity], float)
    others = np.array([box for name, box in scan.boxes.items() if name != identity], float).reshape(-1, 7)
    overlaps = iou_3d(answer.box[None], np.vstack([own, others]))[0]
    distance = float(np.linalg.norm(answer.box[:3] - own[:3]))
    return float(overlaps[0]), distance, float(overlaps[1:].max(initial=0)), float(answer.lost)


def _result(target: Target, rows: NDArray[np.float64]) -> TrackResult:
    seconds, overlap, distance, other, lost, points = rows.T
    return TrackResult(
        target.identity,
        target.category,
        seconds - seconds[0],
        overlap,
        distance,
        other,
        lost > 0.5,
        points.astype(np.int64),
    )
