# SPDX-License-Identifier: Apache-2.0
"""How long a tracker takes for a scan of full size, with a given number of targets."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from perception_models.evaluation.latency import percentiles
from perception_models.evaluation.one_pass import FEWEST, AnyTracker, LabelledScan, ego_motion
from perception_models.geometry.boxes import points_in_boxes

POINTS = 120_000  # of a scan
WARM_UP = 5  # calls that are not counted


class TimedTracker(AnyTracker, Protocol):
    """A tracker that tells the milliseconds of its stages."""

    @property
    def timing(self) -> Mapping[str, float]:
        """Of the last call of `track`."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """Those that are followed."""
        ...


def time_calls(tracker: TimedTracker, scans: list[LabelledScan], targets: int, calls: int) -> dict[str, float]:
    """Percentiles of the milliseconds of `track`: its stages, all of it by the clock (also by whether a target is
    lost and searched for, which takes longer) and by the processor's time.

    The scans are played there and back; the objects with the most points are followed, and where one ends, another.
    """
    scans = [replace(scan, points=resized(scan.points)) for scan in scans]
    way = [*scans, *scans[-2:0:-1]]
    samples: defaultdict[str, list[float]] = defaultdict(list)
    fill(tracker, way[0], targets)
    for call in range(1, WARM_UP + calls + 1):
        before, scan = way[(call - 1) % len(way)], way[call % len(way)]
        for name, milliseconds in _timed(tracker, before, scan):
            if call > WARM_UP:
                samples[name].append(milliseconds)
        fill(tracker, scan, targets)
    return {f"latency_{name}_{p}_ms": value for name, row in samples.items() for p, value in percentiles(row).items()}


def resized(points: np.ndarray) -> np.ndarray:
    """A scan of POINTS points: a random choice, or all and some of them again."""
    rng = np.random.default_rng(0)
    extra = rng.integers(len(points), size=max(POINTS - len(points), 0))
    return points[np.sort(np.append(rng.permutation(len(points))[:POINTS], extra))]


def fill(tracker: TimedTracker, scan: LabelledScan, count: int) -> None:
    """Let the tracker follow so many objects of a scan, those with the most points. Raises ValueError for too few."""
    inside = points_in_boxes(scan.points, np.array(list(scan.boxes.values()))).sum(axis=0)
    seen = {identity: number for identity, number in zip(scan.boxes, inside.tolist(), strict=True) if number >= FEWEST}
    for identity in set(tracker.targets) - set(seen):
        tracker.remove(identity)
    free = sorted(set(seen) - set(tracker.targets), key=lambda identity: -seen[identity])
    if len(seen) < count:
        raise ValueError(f"a scan shows {len(seen)} objects, {count} are to be followed; choose another drive")
    for identity in free[: count - len(tracker.targets)]:
        tracker.add(identity, scan.points, scan.boxes[identity])


def _timed(tracker: TimedTracker, before: LabelledScan, scan: LabelledScan) -> Iterator[tuple[str, float]]:
    motion = ego_motion(before, scan)
    began, worked = time.perf_counter(), time.process_time()
    states = tracker.track(scan.points, motion, 0.1)
    clock, processor = time.perf_counter() - began, time.process_time() - worked
    yield from tracker.timing.items()
    yield "clock", 1e3 * clock
    searching = any(state.lost for state in states.values())
    yield "clock, one is lost" if searching else "clock, none is lost", 1e3 * clock
    yield "processor", 1e3 * processor
