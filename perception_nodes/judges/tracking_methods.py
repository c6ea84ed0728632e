# SPDX-License-Identifier: Apache-2.0
"""What a benchmark of tracking compares: the network, the baselines, and the recordings that they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.evaluation.one_pass import AnyTracker, LabelledScan, Target
from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_models.registration.odometry import Odometry
from perception_models.tracking import MultiTracker, TrackState
from perception_models.tracking.baselines import (
    Association,
    Blind,
    ClusterCandidates,
    DetectionCandidates,
    Separate,
)
from perception_models.tracking.second_opinion import SecondOpinion
from perception_nodes.judges.judgement import Options
from perception_nodes.judges.tracking import LabelledBag, Task, labelled, load_tracker
from perception_nodes.scans import Scan, ScanBag

Floats = npt.NDArray[np.floating]
VELOCITY_SPAN = 0.5  # s of the truth from which "constant velocity" gets its velocity
LOWEST = 0.2  # score of a detection that may be the target


@dataclass(frozen=True)
class Recording:
    """All scans of a drive, in memory, and what is to be followed in them."""

    name: str
    scans: list[LabelledScan]
    task: Task

    @staticmethod
    def of(name: str, scans: list[LabelledScan], ego: str) -> Recording:
        """`ego` says where the sensor's motion comes from: the bag, odometry, or none."""
        moved = {"bag": lambda: scans, "none": lambda: _placed(scans, [None] * len(scans))}
        moved["odometry"] = lambda: _placed(scans, list(_odometry(scans)))
        chosen = moved[ego]()
        return Recording(name, chosen, Task.of(chosen))


def read_recording(path: Path, ego: str) -> Recording:
    """A bag with labelled objects."""
    with ScanBag(path) as bag:
        return Recording.of(path.stem, list(LabelledBag(bag)), ego)


def simulated(seed: int, scans: Iterator[Scan], ego: str) -> Recording:
    """A simulated drive."""
    kept = list(scans)
    first = kept[0].stamp
    return Recording.of(
        f"simulated drive {seed}", [labelled(scan, (scan.stamp - first) * 1e-9, scan.pose) for scan in kept], ego
    )


def _placed(scans: list[LabelledScan], poses: list[se3.Matrix | None]) -> list[LabelledScan]:
    return [replace(scan, pose=pose) for scan, pose in zip(scans, poses, strict=True)]


def _odometry(scans: list[LabelledScan]) -> Iterator[se3.Matrix | None]:
    """Where the sensor was, from its scans alone, each taken as rigid."""
    odometry = Odometry()
    for scan in scans:
        step = odometry.update(scan.points[:, :3], None, scan.seconds)
        yield step.pose if step.valid else None


def _network(options: Options, recording: Recording) -> AnyTracker:
    return load_tracker(options)


class Advised(SecondOpinion):
    """The network, advised by a detector in every scan, as if that took no time."""

    def __init__(self, tracker: MultiTracker, detect: Callable[[Floats], Floats]) -> None:
        super().__init__(tracker)
        self._detect = detect

    def track(
        self, points: Floats, ego_motion: se3.Matrix | None = None, seconds: float = 0.1
    ) -> dict[str, TrackState]:
        """The states after the advice."""
        return super().track(points, ego_motion, seconds) | self.advise(points, self._detect(points))


def _advised(options: Options, recording: Recording) -> AnyTracker:
    return Advised(load_tracker(options), _boxes_by_detector(options))


def _clusters(options: Options, recording: Recording) -> AnyTracker:
    find = ClusterCandidates()
    return Separate(lambda _: Association(find, heading_from_motion=True))


def _detector(options: Options, recording: Recording) -> AnyTracker:
    find = DetectionCandidates(_boxes_by_detector(options))
    return Separate(lambda _: Association(find))


def _boxes_by_detector(options: Options) -> Callable[[Floats], Floats]:
    from perception_models.detection import Detector

    detector = Detector.load(backend=options.backend, threads=options.threads, score_threshold=LOWEST)
    return lambda points: detector.detect(np.asarray(points, np.float32)).boxes


def _stands(options: Options, recording: Recording) -> AnyTracker:
    return Separate(lambda _: Blind())


def _coasts(options: Options, recording: Recording) -> AnyTracker:
    velocities = {one.identity: true_velocity(recording.scans, one) for one in recording.task.targets}
    return Separate(lambda identity: Blind(velocities[identity]))


METHODS: Mapping[str, Callable[[Options, Recording], AnyTracker]] = {
    "network": _network,
    "network + detector": _advised,
    "detector + association": _detector,
    "clusters + Kalman filter": _clusters,
    "constant velocity": _coasts,
    "stands still": _stands,
}


def tracker_of(name: str, options: Options, recording: Recording) -> AnyTracker:
    """One of METHODS, or the network with the weights of another variant."""
    if name in METHODS:
        return METHODS[name](options, recording)
    return MultiTracker.load(variant=name, backend=options.backend, threads=options.threads)


def true_velocity(scans: list[LabelledScan], target: Target) -> Floats:
    """Mean velocity (3,) m/s over the first VELOCITY_SPAN, in the frame of the target's first scan."""
    first = scans[target.start]
    velocity = np.zeros(3)
    for scan in scans[target.start + 1 : target.stop + 1]:
        if target.identity in scan.boxes and scan.seconds - first.seconds <= VELOCITY_SPAN + 0.05:
            box = np.asarray(scan.boxes[target.identity], float)
            if first.pose is not None and scan.pose is not None:
                box = transform_boxes(box[None], se3.inverse(first.pose) @ scan.pose)[0]
            step = box[:3] - np.asarray(first.boxes[target.identity], float)[:3]
            velocity = step / (scan.seconds - first.seconds)
    return velocity
