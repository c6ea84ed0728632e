# SPDX-License-Identifier: Apache-2.0
"""Judges how the objects of a bag are followed, each given once: by its true box, when it first has enough points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perception_models.classes import CLASSES
from perception_models.evaluation import pictures
from perception_models.evaluation import tracking_report as parts
from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.one_pass import (
    FEWEST,
    Answer,
    LabelledScan,
    Target,
    find_targets,
    follow,
    judge,
)
from perception_models.evaluation.report import Report, latency_table
from perception_models.evaluation.tracking import TrackResult, summarize
from perception_models.geometry.se3 import Matrix
from perception_models.tracking import MultiTracker
from perception_nodes import bags
from perception_nodes.bag_messages import Objects
from perception_nodes.judges.judgement import Judgement, Options, Watch
from perception_nodes.scans import ODOM, Scan, ScanBag

PICTURES = 3
REACH = 40.0  # m shown in a picture
NOTE = (
    f"Each object is given once, by its true box in the first scan in which that holds {FEWEST} points. That scan "
    "counts; later ones count with the tracker's box, also where it says that it is lost. The motion of the sensor is "
    "the bag's."
)
LEGEND = (("truth", pictures.TRUE), ("tracker", pictures.HIT), ("other objects", pictures.SILENT))
Answers = Mapping[str, Mapping[int, Answer]]


class LabelledBag:
    """The scans of an open bag with their objects, as often as they are asked for; `poses` (sensor -> world, by stamp)
    replace the bag's. An object of no known class is nobody's target, but still another object."""

    def __init__(self, bag: ScanBag, poses: Mapping[int, Matrix | None] | None = None) -> None:
        self._bag, self._poses = bag, poses

    def __len__(self) -> int:
        return len(self._bag)

    def __iter__(self) -> Iterator[LabelledScan]:
        first = None
        for scan in self._bag:
            first = scan.stamp if first is None else first
            pose = self._bag.pose_of(scan.stamp) if self._poses is None else self._poses.get(scan.stamp)
            yield labelled(scan, (scan.stamp - first) * 1e-9, pose)


def labelled(scan: Scan, seconds: float, pose: Matrix | None) -> LabelledScan:
    """A scan with what stands where, by identity, and what each of it is."""
    objects = scan.objects or Objects(np.zeros((0, 7), np.float32), [], [], np.zeros(0, np.float32))
    kinds = objects.kinds or tuple(objects.names)
    categories = [kind if name in CLASSES else "" for kind, name in zip(kinds, objects.names, strict=True)]
    boxes = dict(zip(objects.ids, objects.boxes, strict=True))
    return LabelledScan(seconds, scan.points, boxes, pose, dict(zip(objects.ids, categories, strict=True)))


@dataclass(frozen=True)
class Task:
    """What is to be followed in a bag, and the points of each object by scan."""

    targets: list[Target]
    counts: Mapping[str, Mapping[int, int]]

    @staticmethod
    def of(scans: Iterable[LabelledScan]) -> Task:
        """Every object of a known class. Raises ValueError where there is none."""
        found, counts = find_targets(scans)
        targets = [one for one in found if one.category]
        if not targets:
            raise ValueError(
                f"the bag has no labelled object with {FEWEST} points that is seen again; nothing to judge"
            )
        return Task(targets, counts)


def in_process(path: Path, options: Options, watch: Watch) -> Judgement:
    """Follow every object of the bag, several at a time."""
    tracker, latency = load_tracker(options), LatencyLog()
    with ScanBag(path, options.topic) as bag:
        scans = LabelledBag(bag)
        task = Task.of(scans)
        answers = follow(
            tracker, Watched(scans, watch, "following"), task.targets, after=lambda: latency.add(tracker.timing)
        )
        results = judge(scans, task.targets, answers, task.counts)
        facts = {"model": options.variant, "engine": str(tracker.engine_info)}
        return _judgement(f"Tracking on {path.name}", scans, task, answers, results, latency.summary(), facts)


def recorded(path: Path, options: Options, watch: Watch) -> Judgement:
    """Judge the tracks that the bag holds, each from its first scan on; without one in a scan it counts as lost."""
    with ScanBag(path, options.topic) as bag:
        scans = LabelledBag(bag)
        task, found = Task.of(scans), bag.recorded(bags.TRACKS)
        answers: defaultdict[str, dict[int, Answer]] = defaultdict(dict)
        for index, scan in enumerate(watch(bag, len(bag), "judging")):
            for identity, box in _boxes(found.get(scan.stamp)):
                answers[identity][index] = Answer(np.asarray(box, float), False)
        begun = Task([_begun(one, answers) for one in task.targets if one.identity in answers], task.counts)
        results = judge(scans, begun.targets, answers, task.counts)
        facts = {"tracks": "as recorded in the bag", "never begun": str(len(task.targets) - len(begun.targets))}
        return _judgement(f"Tracks in {path.name}", scans, begun, answers, results, {}, facts)


def node_parameters(options: Options) -> dict[str, object]:
    """ROS parameters of the tracking node: it follows each object of the truth, started once."""
    return {
        "start_all": True,
        "start_points": FEWEST,
        "fixed_frame": ODOM,
        "variant": options.variant,
        "backend": options.backend,
        "threads": options.threads or 0,
    }


def load_tracker(options: Options) -> MultiTracker:
    """The tracker that the options ask for."""
    return MultiTracker.load(variant=options.variant, backend=options.backend, threads=options.threads)


class Watched:
    """Scans whose reading shows its progress, every time anew."""

    def __init__(self, scans: LabelledBag | Sequence[LabelledScan], watch: Watch, word: str) -> None:
        self._scans, self._watch, self._word = scans, watch, word

    def __iter__(self) -> Iterator[LabelledScan]:
        return iter(self._watch(self._scans, len(self._scans), self._word))


def _begun(target: Target, answers: Answers) -> Target:
    return replace(target, start=min(answers[target.identity]))


def _boxes(objects: Objects | None) -> list[tuple[str, np.ndarray]]:
    return list(zip(objects.ids, objects.boxes, strict=True)) if objects is not None else []


def _judgement(
    title: str,
    scans: LabelledBag,
    task: Task,
    answers: Answers,
    results: Sequence[TrackResult],
    latencies: Mapping[str, float],
    facts: Mapping[str, str],
) -> Judgement:
    report = Report(
        title=title,
        facts=facts,
        tables=[
            parts.category_table(results),
            parts.points_table(results),
            parts.targets_table(results),
            latency_table(latencies),
        ],
        plots=parts.curve_plots(results),
        plots_title="Curves",
        pictures=_pictures(scans, task, answers, results),
        notes=[NOTE],
    )
    figures = {**parts.figures_of(results), **latencies}
    return Judgement("tracking", report, figures, _shown(figures))


def _shown(figures: Mapping[str, float]) -> list[str]:
    wanted = ("tracks", "scans", "success", "precision", "wrong_object", "until_loss_s", "reacquired")
    chosen = {name: value for name, value in figures.items() if name.endswith(wanted) and "points" not in name}
    return [f"{name:32} {value:8.2f}" for name, value in chosen.items()]


def _pictures(
    scans: LabelledBag, task: Task, answers: Answers, results: Sequence[TrackResult]
) -> list[tuple[str, bytes]]:
    """The worst targets, where they were first not followed."""
    worst = sorted(results, key=lambda one: summarize([one])["success"])[:PICTURES]
    rows = {one.identity: int(np.argmin(one.followed)) for one in worst if not one.followed.all()}
    starts = {one.identity: one.start for one in task.targets}
    wanted = {identity: _scan_of(starts[identity], row, task.counts[identity]) for identity, row in rows.items()}
    drawn = []
    for index, scan in enumerate(scans):
        for identity, when in wanted.items():
            if when == index:
                drawn.append(_draw(scan, identity, answers.get(identity, {}).get(index)))
    return drawn


def _scan_of(start: int, row: int, counts: Mapping[int, int]) -> int:
    """Index of the scan behind a row of a result: rows are the scans with a truth from the start on."""
    return [index for index in counts if index >= start][row]


def _draw(scan: LabelledScan, identity: str, answer: Answer | None) -> tuple[str, bytes]:
    title = f"target {identity} at {scan.seconds:.1f} s"
    picture = pictures.BirdsEye(scan.points, REACH)
    others = [box for name, box in scan.boxes.items() if name != identity]
    picture.boxes(np.array(others, float).reshape(-1, 7), pictures.SILENT, width=1)
    picture.boxes(np.asarray(scan.boxes[identity], float)[None], pictures.TRUE, width=3)
    if answer is not None and np.isfinite(answer.box).all():
        picture.boxes(answer.box[None], pictures.HIT)
    picture.legend(title, LEGEND)
    return title, picture.png()
