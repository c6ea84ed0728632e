# SPDX-License-Identifier: Apache-2.0
"""Objects of simulated drives, each with the points around it by scan: files of a pool that training draws from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.classes import VEHICLE
from perception_models.geometry.boxes import transform_boxes
from perception_models.simulation.drive import simulate_drive
from perception_models.simulation.frame import LidarFrame
from perception_models.simulation.sensors import SENSORS
from perception_models.tracking.regions import Floats, half_extent, into_box

OWN, OTHER, STILL = 2, 1, 0  # whose a point is
KEPT_POINTS = 1600  # around an object in a scan
SURROUNDINGS = 2.2  # margin, of the root of the area from above
HDL64 = 0.75  # share of drives with that sensor
STANDING = 8  # vehicles of a drive that stand still and are kept
PEOPLE = 3.0  # times as many as usual
FEWEST = 8  # points in the scan in which an object has most


@dataclass(frozen=True)
class Glimpse:
    """An object in one scan. points (N, 3) in the frame of its true box, m; owner (N,); own: its points in the scan;
    box (7,) in the sensor's frame; world (7,) the same in the drive's frame."""

    points: Floats
    owner: npt.NDArray[np.uint8]
    own: int
    box: Floats
    world: Floats


@dataclass(frozen=True)
class Tracklet:
    """An object's glimpses in consecutive scans, 0.1 s apart."""

    label: int
    glimpses: tuple[Glimpse, ...]

    @property
    def size(self) -> Floats:
        """Length, width, height, m."""
        return self.glimpses[0].box[3:6]


def simulate_tracklets(seed: int, seconds: float = 3.0) -> list[Tracklet]:
    """What is seen in one drive; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    sensor = "hdl64" if rng.random() < HDL64 else str(rng.choice(list(SENSORS)))
    frames = list(simulate_drive(seed, seconds, sensor, motion_distortion=bool(rng.random() < 0.3), people=PEOPLE))
    tracks = [tracklet for run in _runs(frames) if (tracklet := _tracklet(frames, *run, rng)) is not None]
    standing = [one for one in tracks if one.label == VEHICLE and _travel(one) < 0.3]
    dropped = {id(standing[k]) for k in rng.permutation(len(standing))[STANDING:]}
    return [one for one in tracks if id(one) not in dropped]


def _runs(frames: list[LidarFrame]) -> Iterator[tuple[int, int, int]]:
    """Identity, first scan and scan after the last of each object that is listed without a break."""
    for identity in np.unique(np.concatenate([frame.track_ids for frame in frames])):
        listed = [int(identity in frame.track_ids) for frame in frames]
        steps = np.flatnonzero(np.diff([0, *listed, 0]))
        for first, after in zip(steps[::2], steps[1::2], strict=True):
            if after - first >= 4:
                yield int(identity), int(first), int(after)


def _tracklet(
    frames: list[LidarFrame], identity: int, first: int, after: int, rng: np.random.Generator
) -> Tracklet | None:
    rows = [int(np.flatnonzero(frame.track_ids == identity)[0]) for frame in frames[first:after]]
    counts = [int(frame.num_points[row]) for frame, row in zip(frames[first:after], rows, strict=True)]
    if max(counts) < FEWEST:
        return None
    glimpses = tuple(_glimpse(frame, row, rng) for frame, row in zip(frames[first:after], rows, strict=True))
    return Tracklet(int(frames[first].labels[rows[0]]), glimpses)


def _glimpse(frame: LidarFrame, row: int, rng: np.random.Generator) -> Glimpse:
    box, own = frame.boxes[row], int(frame.num_points[row])
    half = half_extent(box[3:6], SURROUNDINGS, 0.6)
    reach = np.hypot(half[0], half[1])
    near = np.flatnonzero((np.abs(frame.points[:, :2] - box[:2]) <= reach).all(axis=1))
    local = into_box(frame.points[near, :3], box)
    kept = np.flatnonzero((np.abs(local) <= half).all(axis=1))
    kept = rng.permutation(kept)[:KEPT_POINTS]
    instance = frame.instance[near[kept]]
    owner = np.where(instance == frame.track_ids[row], OWN, np.where(instance >= 0, OTHER, STILL))
    world = transform_boxes(box[None], frame.pose)[0]
    return Glimpse(local[kept], owner.astype(np.uint8), own, box, world.astype(np.float32))


def _travel(tracklet: Tracklet) -> float:
    first, last = tracklet.glimpses[0].world, tracklet.glimpses[-1].world
    return float(np.linalg.norm(first[:3] - last[:3]))


def save(tracklets: list[Tracklet], path: Path) -> None:
    """Write tracklets to a file, whole or not at all; coordinates in half precision (4 mm at 4 m)."""
    glimpses = [glimpse for one in tracklets for glimpse in one.glimpses]
    partial = path.with_suffix(".part.npz")
    np.savez(
        partial,
        labels=[one.label for one in tracklets],
        lengths=[len(one.glimpses) for one in tracklets],
        own=[glimpse.own for glimpse in glimpses],
        box=[glimpse.box for glimpse in glimpses],
        world=[glimpse.world for glimpse in glimpses],
        counts=[len(glimpse.points) for glimpse in glimpses],
        points=np.concatenate([glimpse.points for glimpse in glimpses]).astype(np.float16),
        owner=np.concatenate([glimpse.owner for glimpse in glimpses]),
    )
    partial.rename(path)


def load(path: Path) -> list[Tracklet]:
    """Read a file of `save`."""
    with np.load(path) as file:
        data = {name: file[name] for name in file.files}
    ends = np.cumsum(data["counts"])
    glimpses = [
        Glimpse(data["points"][end - count : end], data["owner"][end - count : end], int(own), box, world)
        for end, count, own, box, world in zip(
            ends, data["counts"], data["own"], data["box"], data["world"], strict=True
        )
    ]
    after = np.cumsum(data["lengths"])
    return [
        Tracklet(int(label), tuple(glimpses[end - length : end]))
        for label, end, length in zip(data["labels"], after, data["lengths"], strict=True)
    ]


def fill(pool: Path, seed: int, drives: int) -> None:
    """Simulate the drives that the pool lacks, one file each."""
    pool.mkdir(parents=True, exist_ok=True)
    for index in range(drives):
        path = pool / f"{seed + index:08d}.npz"
        if not path.exists() and (tracklets := simulate_tracklets(seed + index)):
            save(tracklets, path)
