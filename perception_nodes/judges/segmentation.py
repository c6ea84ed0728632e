# SPDX-License-Identifier: Apache-2.0
"""Judges the instances that a bag's views are given one by one, by ids that must stay, against the bag's true ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.instances import SceneLabels, instance_figures
from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.report import Report, Table, as_cell, latency_table
from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, RgbdFrame, project
from perception_models.segmentation.online import InstanceMap
from perception_models.segmentation.online_parts import SegmenterParts
from perception_models.segmentation.online_settings import OnlineSettings
from perception_models.segmentation.thinning import Thinned
from perception_nodes import bags
from perception_nodes.bag_messages import stamp_of
from perception_nodes.bags import BagReader
from perception_nodes.images import decode_labels
from perception_nodes.judges.judgement import Judgement, Options, Watch
from perception_nodes.point_clouds import read_field
from perception_nodes.rgbd_bag import RgbdBag
from perception_nodes.scans import ODOM

Labels = NDArray[np.int64]
EVERY = 8  # of the truth's points, one is judged
VOXEL = 0.02  # m, in which points of all views count as one
NOTE = (
    "Each view gives its points the ids of its label image at that time; a point that was seen often has the last one. "
    "An instance's score is the share of all its sightings that already had this id. The building is not judged."
)


@dataclass(frozen=True)
class Seen:
    """Points (N, 3) of one view in the world, with the true instances (N,) and the ids that were found (N,), or 0."""

    points: Floats
    truth: Labels
    found: Labels


def in_process(path: Path, options: Options, watch: Watch) -> Judgement:
    """Every view of the bag goes into a map, in order."""
    settings, latency, reasons = OnlineSettings(), LatencyLog(), list[str]()
    parts = SegmenterParts.load(options.variant, options.backend, options.threads, settings.voxel)
    instance_map, seen = InstanceMap(parts, settings), list[Seen]()
    truth = _truth(path)
    with RgbdBag(path, options.topic) as bag:
        for stamp, frame in watch(bag, len(bag), "segmenting"):
            update = instance_map.update(frame, stamp * 1e-9)
            if not update.accepted:
                reasons.append(update.reason)
            elif stamp in truth:
                seen.append(_seen(frame, truth[stamp], update.labels))
                if len(seen) > 1:  # the first pays for what is set up on first use
                    latency.add(instance_map.timing)
    facts = {"model": options.variant, "engine": str(parts.engine_info), **_said(reasons)}
    figures = {"left_out": float(len(reasons)), "voxels": float(len(instance_map)), **latency.summary()}
    parts.close()
    return _judgement(f"Segmentation of {path.name}", seen, figures, facts)


def recorded(path: Path, options: Options, watch: Watch) -> Judgement:
    """Judge the label images that the bag holds; a view without one was left out."""
    with BagReader(path) as reader:
        answers = {stamp_of(message): decode_labels(message) for _, _, message in reader.messages([bags.LABELS])}
    seen, left_out, truth = list[Seen](), 0, _truth(path)
    with RgbdBag(path, options.topic) as bag:
        for stamp, frame in watch(bag, len(bag), "judging"):
            left_out += stamp not in answers
            if stamp in answers and stamp in truth and frame.pose is not None:
                seen.append(_seen(frame, truth[stamp], answers[stamp]))
    facts = {"label images": "as recorded in the bag"}
    return _judgement(f"Label images in {path.name}", seen, {"left_out": float(left_out)}, facts)


def node_parameters(options: Options) -> dict[str, object]:
    """ROS parameters of the segmentation node: every image is a key frame, and nothing comes too late."""
    every = {"key_distance": 0.0, "key_angle": 0.0, "key_time": 0.0, "depth_timeout": 5.0, "tf_timeout": 1.0}
    model = {"variant": options.variant, "backend": options.backend, "threads": options.threads or 0}
    return {**every, **model, "map_frame": ODOM}


def _truth(path: Path) -> dict[int, tuple[Floats, Labels]]:
    """By stamp: some of the true points (N, 3) in the camera's frame, and their instances (N,), 0 for the building."""
    with BagReader(path) as reader:
        if not reader.count(bags.TRUTH_INSTANCES):
            raise ValueError(f"{path} has no {bags.TRUTH_INSTANCES}; there is nothing to judge by")
        return {stamp_of(m): _true_points(m) for _, _, m in reader.messages([bags.TRUTH_INSTANCES])}


def _true_points(message: Any) -> tuple[Floats, Labels]:
    columns = [read_field(message, name).ravel()[::EVERY] for name in ("x", "y", "z", "label")]
    return np.stack(columns[:3], axis=1).astype(np.float32), columns[3].astype(np.int64)


def _seen(frame: RgbdFrame, truth: tuple[Floats, Labels], labels: NDArray[np.int32]) -> Seen:
    """The true points of a view, and what its label image (H, W) says of them. Raises ValueError without a pose."""
    points, instances = truth
    if frame.pose is None:
        raise ValueError("a view without pose tells nothing of the world")
    x, y = np.rint(project(points, frame.camera_matrix)).astype(np.int64).T
    height, width = labels.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = labels[y[inside], x[inside]].astype(np.int64)
    return Seen(se3.apply(frame.pose, points[inside]).astype(np.float32), instances[inside], found)


def _scene(seen: Iterable[Seen]) -> tuple[SceneLabels, float]:
    """All views put together, voxel by voxel, and the share (%) of sightings that had the id that stayed."""
    views = list(seen)
    points, truth, found = (np.concatenate([getattr(v, name) for v in views]) for name in ("points", "truth", "found"))
    thinned = Thinned.of(points, VOXEL)
    names, found = np.unique(np.append(found, 0), return_inverse=True)
    found = found[:-1]
    last, true = np.zeros((2, len(thinned.points)), np.int64)
    known = np.flatnonzero(names[found] > 0)
    last[thinned.rows[known]] = found[known]  # of several, the last is kept
    true[thinned.rows] = truth
    has = last[thinned.rows] > 0
    stayed = (found == last[thinned.rows]) & has
    sightings = np.bincount(last[thinned.rows][has], minlength=len(names))
    scores = np.bincount(last[thinned.rows][stayed], minlength=len(names)) / np.maximum(sightings, 1)
    scene = SceneLabels(last - 1, scores[1:], np.where(true == 0, -1, true))
    return scene, float(100 * stayed.sum() / max(has.sum(), 1))


def _judgement(title: str, seen: list[Seen], more: Mapping[str, float], facts: Mapping[str, str]) -> Judgement:
    if not seen:
        reason = facts.get("left out", "no view was taken in")
        raise ValueError(f"no view of the bag can be judged: {reason}")
    scene, stable = _scene(seen)
    scored = {name: value for name, value in instance_figures([scene]).items() if np.isfinite(value)}
    counts = {"views": float(len(seen)), "instances": float(len(np.unique(scene.truth[scene.truth >= 0])))}
    figures = {**counts, **scored, "stable_ids": stable, **more}
    rows = [[name.replace("_", " "), as_cell(value)] for name, value in figures.items() if "latency" not in name]
    latencies = {name: value for name, value in figures.items() if "latency" in name}
    report = Report(
        title=title, facts=facts, tables=[Table("Instances", ["", ""], rows), latency_table(latencies)], notes=[NOTE]
    )
    shown = [f"{name:32} {value:8.2f}" for name, value in figures.items() if "latency" not in name or "total" in name]
    return Judgement("segmentation", report, figures, shown)


def _said(reasons: list[str]) -> dict[str, str]:
    """The last reason for which a view was left out."""
    return {"left out": reasons[-1]} if reasons else {}
