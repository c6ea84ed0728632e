# SPDX-License-Identifier: Apache-2.0
"""Training samples: two scans of a simulated object, disturbed as a tracker meets them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from perception_models.tracking.disturb import Around, beside, disturbed, legs, occluded
from perception_models.tracking.preprocess import Channel, View, prepare, remember
from perception_models.tracking.regions import Floats, Values, half_extent, into_box, moved_box, offset_between
from perception_models.tracking.settings import TrackingSettings
from perception_models.tracking.tracklets import OWN, Glimpse, Tracklet, load

Rng = np.random.Generator
SHARES = (0.45, 0.3, 0.25)  # of vehicles, pedestrians, cyclists
GAPS = (0.8, 0.13, 0.07)  # of one, two, three scans between a pair
CLEAR = 5  # points of most objects
FEWEST = 2  # points with which an object is seen
MOVING = 0.5  # m/s
LOADED = 160  # drives in memory


@dataclass(frozen=True)
class Sample:
    """Tensors for the network, and what is true."""

    tensors: dict[str, npt.NDArray[np.generic]]
    truth: dict[str, npt.NDArray[np.generic]]


def make_sample(tracklet: Tracklet, others: Sequence[Tracklet], rng: Rng, settings: TrackingSettings) -> Sample:
    """A pair of scans of the tracklet; points of others are set beside it at times."""
    size = tracklet.size
    gap = 1 + int(rng.choice(3, p=GAPS))
    later = _scan(tracklet, gap, rng)
    first, second = tracklet.glimpses[later - gap], tracklet.glimpses[later]
    unit = float(np.sqrt(size[0] * size[1]))
    before = disturbed(size, rng)  # of the previous box from the truth
    error, motion, is_known = _expectation(first, second, before, gap, rng)
    reach = float(rng.uniform(0, 0.8) * unit) if rng.random() < 0.15 else 0.0
    here, there = _around(first), _around(second)
    if rng.random() < 0.3:
        here, there = beside(here, there, others[int(rng.integers(len(others)))], size, rng)
    there = occluded(there, second.box, rng)
    here, there = legs(here, tracklet.label, size, rng), legs(there, tracklet.label, size, rng)
    own = int((there.owner == OWN).sum())
    expected, previous = moved_box(_centred(size), error), moved_box(_centred(size), before)
    current = into_box(there.points, expected)
    region = half_extent(size, settings.margin, settings.margin_z, reach)
    inside = (np.abs(current) <= region).all(axis=1)
    old = into_box(here.points, previous)
    narrow = (np.abs(old) <= half_extent(size, settings.previous_margin, settings.margin_z)).all(axis=1)
    memory = _memory(tracklet, later - gap, before, rng, settings)
    mirror = np.array([1.0, -1.0 if rng.random() < 0.5 else 1.0, 1.0], np.float32)
    view = View(
        size,
        current[inside] * mirror,
        old[narrow] * mirror,
        memory * mirror,
        _mirrored(moved_box(second.box, error), mirror[1]),
        motion * [1, mirror[1], 1, mirror[1]],
        0.1 * gap,
        reach,
        is_known,
        rng,
    )
    flip = np.array([1, mirror[1], 1, mirror[1]])
    offset = offset_between(expected, _centred(size)) * flip
    truth = {
        "offset": offset.astype(np.float32),
        "previous": (offset_between(previous, _centred(size)) * flip).astype(np.float32),
        "size": size.astype(np.float32),
        "seen": np.float32(own >= FEWEST and bool(((there.owner == OWN) & inside).sum() >= FEWEST)),
        "state": np.float32(np.linalg.norm(first.world[:3] - second.world[:3]) > MOVING * 0.1 * gap),
    }
    tensors = prepare([view], settings)
    tensors = {name: value[0] for name, value in tensors.items()}
    truth |= _foreground(
        tensors,
        size,
        offset_between(previous, _centred(size)) * flip,
        current[inside] * mirror,
        there.owner[inside] == OWN,
        settings,
    )
    return Sample(tensors, truth)


def _scan(tracklet: Tracklet, gap: int, rng: Rng) -> int:
    """The later scan of a pair: mostly one in which the object is seen."""
    clear = [k for k in range(gap, len(tracklet.glimpses)) if tracklet.glimpses[k].own >= CLEAR]
    if clear and rng.random() < 0.9:
        return int(clear[rng.integers(len(clear))])
    return int(rng.integers(gap, len(tracklet.glimpses)))


def _centred(size: Floats) -> Floats:
    """The true box, in whose frame the points of a glimpse are."""
    return np.array([0, 0, 0, *size, 0], np.float32)


def _around(glimpse: Glimpse) -> Around:
    return Around(glimpse.points.astype(np.float32), glimpse.owner)


def _mirrored(box: Floats, sign: float) -> Floats:
    """A box (7,) mirrored, where sign is -1, about the line from the sensor through it."""
    if sign > 0:
        return box
    towards = np.arctan2(-box[1], -box[0])
    mirrored = box.copy()
    mirrored[6] = 2 * towards - box[6]
    return mirrored


def _expectation(first: Glimpse, second: Glimpse, before: Floats, gap: int, rng: Rng) -> tuple[Values, Values, bool]:
    """Error (4,) of where the object is expected in the second scan, the motion (4,) that was expected, and whether it
    came from a velocity."""
    size, kind = first.box[3:6], rng.random()
    true = offset_between(first.world, second.world)
    if kind < 0.08:  # neither its motion nor that of the sensor is known
        step = offset_between(first.box, second.box)
        return _minus(before, step, size), np.zeros(4), False
    if kind < 0.25:  # its first scans: nothing is known of its motion
        return _minus(before, true, size), np.zeros(4), False
    unit = float(np.sqrt(size[0] * size[1]))
    wrong = rng.normal(0, 1, 4) * [0.06, 0.04, 0.01, 0.02] * (unit * gap)
    wrong[:3] /= size
    wrong[3] = np.clip(wrong[3], -0.3, 0.3)
    return before + wrong, true + wrong, True


def _minus(before: Floats, step: Values, size: Floats) -> Values:
    """Error (4,), seen from where the object went, of a box with the error `before` that did not go with it."""
    went = moved_box(np.array([0, 0, 0, *size, 0]), step)
    stayed = moved_box(np.array([0, 0, 0, *size, 0]), before)
    return offset_between(went, stayed)


def _memory(tracklet: Tracklet, last: int, before: Floats, rng: Rng, settings: TrackingSettings) -> Floats:
    """What a tracker remembers that started some scans before, with boxes that became worse by and by."""
    size = tracklet.size
    start = max(0, last - int(rng.integers(0, 15)))
    steps = np.unique(np.linspace(start, last, int(rng.integers(1, 5))).astype(int))
    memory = np.zeros((0, 3), np.float32)
    for step in steps:
        glimpse = _around(tracklet.glimpses[step])
        glimpse = legs(glimpse, tracklet.label, size, rng)
        share = (step - start) / max(last - start, 1)
        box = moved_box(
            _centred(size), before * share * rng.uniform(0.5, 1.2) + disturbed(size, rng) * 0.3 * (share > 0)
        )
        memory = remember(memory, into_box(glimpse.points, box), size, settings, rng)
    return memory


def _foreground(
    tensors: dict[str, npt.NDArray[np.generic]],
    size: Floats,
    previous: Values,
    points: Floats,
    own: npt.NDArray[np.bool_],
    settings: TrackingSettings,
) -> dict[str, npt.NDArray[np.generic]]:
    """Which of the first-stage queries are the object's: by owner in this scan, by the true box in the template."""
    half = settings.queries[0]
    current = tensors["current"][:half]
    wanted = {tuple(row) for row in (points[own] / size).astype(np.float32).tolist()}
    now = np.array([tuple(row) in wanted for row in current[:, :3].tolist()])
    template = np.asarray(tensors["template"][: half // 2], np.float32)
    box = moved_box(_centred(size), previous)
    places = np.asarray(template[:, :3], np.float32) * size
    then = (np.abs(into_box(places, box)) <= size * 0.52).all(axis=1)
    valid = np.concatenate([current[:, Channel.VALID], template[:, Channel.VALID]]).astype(np.float32)
    return {"foreground": np.concatenate([now, then]).astype(np.float32) * valid, "valid": valid}


class SampleStream(IterableDataset[Sample]):
    """Endless samples from a pool of files that may grow meanwhile."""

    def __init__(self, pool: Path, seed: int, settings: TrackingSettings, labels: tuple[int, ...] = (0, 1, 2)) -> None:
        self.pool, self.seed, self.settings, self.labels = pool, seed, settings, labels

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        rng = np.random.default_rng(self.seed * 64 + (worker.id if worker else 0))
        drives: dict[Path, list[Tracklet]] = {}
        shares = np.array([SHARES[label] for label in self.labels])
        while True:
            self._refresh(drives, rng)
            groups = [[one for drive in drives.values() for one in drive if one.label == k] for k in self.labels]
            if not all(groups):
                raise FileNotFoundError(f"{self.pool} has no tracklets of every category; fill it first")
            for _ in range(3000):
                group = groups[rng.choice(len(groups), p=shares / shares.sum())]
                tracklet = group[rng.integers(len(group))]
                yield make_sample(tracklet, group, rng, self.settings)

    def _refresh(self, drives: dict[Path, list[Tracklet]], rng: Rng) -> None:
        """Load what is new, and instead of some drives others."""
        files = sorted(path for path in self.pool.glob("*.npz") if ".part" not in path.name)
        fresh = [path for path in files if path not in drives]
        for path in [fresh[k] for k in rng.permutation(len(fresh))[: max(20, LOADED - len(drives))]]:
            drives[path] = load(path)
        for path in list(drives)[: max(0, len(drives) - LOADED)]:
            del drives[path]


def collate(samples: Sequence[Sample]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and truth of a batch."""
    return tuple(  # type: ignore[return-value]
        {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        for rows in ([sample.tensors for sample in samples], [sample.truth for sample in samples])
    )


def batches(
    pool: Path, seed: int, settings: TrackingSettings, size: int, workers: int, labels: tuple[int, ...] = (0, 1, 2)
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Endless batches made by `workers` processes (0: in this one)."""
    yield from DataLoader(
        SampleStream(pool, seed, settings, labels),
        batch_size=size,
        num_workers=workers,
        collate_fn=collate,
        prefetch_factor=4 if workers else None,
    )
