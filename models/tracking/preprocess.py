# SPDX-License-Identifier: Apache-2.0
"""What the network sees of a target: points of this scan, of the scan before and of earlier views, and a few facts.

Points are in the frame of a box, in units of its size: those of this scan in the box where the target is expected,
the others in the box where it was. Each set is in random order, those near the box first more often than not: stages
of the network that look at fewer points take the first ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from perception_models.tracking.regions import Floats, Values
from perception_models.tracking.settings import CHANNELS, CONTEXT, TrackingSettings

Tensors = dict[str, npt.NDArray[np.generic]]
FAR = 4.0  # where rows without a point are, in units of the size
DISTANCE, SECONDS, POINTS = 30.0, 0.2, 5.0  # m, s, log of a count: scales of the facts


class Channel(IntEnum):
    """Of a point: coordinates in units of the size, whether there is a point, whether it is in the box, which set."""

    X, Y, Z, VALID, INSIDE, SET = range(CHANNELS)


@dataclass(frozen=True)
class View:
    """A target in one scan. current, previous, memory (M, 3): metres in the frames of their boxes; motion (4,): where
    it is expected, seen from where it was, with the sensor's own motion taken off where that is known (offset_between).
    """

    size: Values  # (3,) m
    current: Floats
    previous: Floats
    memory: Floats
    expected: Values  # (7,) box in the sensor's frame
    motion: Values
    seconds: float
    reach: float  # m that it may be away from where it is expected
    is_moving_known: bool  # whether `motion` holds a measured velocity
    rng: np.random.Generator  # draws the points where there is no room for all


def prepare(views: list[View], settings: TrackingSettings) -> Tensors:
    """Tensors of targets: current (T, C, CHANNELS), template (T, previous + memory, CHANNELS), context (T, CONTEXT)."""
    rows = [_tensors(view, settings) for view in views]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _tensors(view: View, settings: TrackingSettings) -> Tensors:
    sets = [
        arrange(points / view.size, count, view.rng)
        for points, count in (
            (view.current, settings.current),
            (view.previous, settings.previous),
            (view.memory, settings.memory),
        )
    ]
    for number, points in enumerate(sets):
        points[:, Channel.SET] = number - 1
    # Alternating, so that the first rows of the template hold both.
    template = np.concatenate(sets[1:])[_interleaved(settings)]
    return {"current": sets[0], "template": template, "context": context(view)}


def arrange(points: Values, count: int, rng: np.random.Generator) -> Floats:
    """At most `count` of points (M, 3) in random order, as rows (count, CHANNELS); the rest of the rows is empty.

    A point's rank is exponentially distributed, with a mean that grows with its distance from the box.
    """
    x, y, z = np.abs(points.T)
    outside = np.maximum(np.maximum(np.maximum(x, y), z) - 0.5, 0.0)
    rank = rng.exponential(size=len(points)) * (1.0 + 3.0 * outside)
    first = np.argpartition(rank, count)[:count] if len(points) > count else np.arange(len(points))
    order = first[np.argsort(rank[first])]
    rows = np.zeros((count, CHANNELS), np.float32)
    rows[:, :3] = FAR
    rows[: len(order), :3] = points[order]
    rows[: len(order), Channel.VALID] = 1.0
    rows[: len(order), Channel.INSIDE] = outside[order] == 0.0
    return rows


def _interleaved(settings: TrackingSettings) -> npt.NDArray[np.intp]:
    position = np.concatenate([np.arange(n) / n for n in (settings.previous, settings.memory)])
    return np.argsort(position, kind="stable")


def context(view: View) -> Floats:
    """Facts (CONTEXT,): size, where the sensor is, the expected motion, time, freedom, number of points."""
    length, width, height = np.maximum(view.size, 1e-2)
    x, y, yaw = view.expected[0], view.expected[1], view.expected[6]
    towards = np.arctan2(-y, -x) - yaw
    facts = [
        *np.log([length, width, height]),
        np.log(length / width),
        np.hypot(x, y) / DISTANCE,
        np.cos(towards),
        np.sin(towards),
        *np.clip(view.motion, -3, 3),
        view.seconds / SECONDS,
        view.reach / np.sqrt(length * width),
        float(view.is_moving_known),
        np.log1p(len(view.current)) / POINTS,
    ]
    assert len(facts) == CONTEXT
    return np.array(facts, np.float32)


def remember(
    memory: Floats, points: Values, size: Values, settings: TrackingSettings, rng: np.random.Generator
) -> Floats:
    """The memory (M, 3) with points (N, 3) of a new view, both in metres in the object's frame.

    Of the points in a voxel the oldest stays: what is remembered does not drift with the box. Points far out of the
    box are left out; where there is no room, any are.
    """
    inside = points[(np.abs(points) <= size * (0.5 + settings.memory_margin)).all(axis=1)]
    joined = np.concatenate([memory, inside]).astype(np.float32)
    cells = np.floor(joined / size * settings.voxels + 64).astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    first = np.sort(np.unique(cells, return_index=True)[1])
    if len(first) > settings.remembered:
        first = np.sort(rng.permutation(first)[: settings.remembered])
    return joined[first]
