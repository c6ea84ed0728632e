# SPDX-License-Identifier: Apache-2.0
"""Judges where a bag's images were found in a map against where the bag says that the camera was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.relocalization import pose_errors, summarize
from perception_models.evaluation.report import Report, Table, as_cell, latency_table
from perception_models.evaluation.trajectory_picture import draw_trajectories
from perception_models.geometry.cameras import Matrix
from perception_models.relocalization import Relocalizer, SceneMap
from perception_nodes import bags
from perception_nodes.bag_messages import decode_odometry, stamp_of
from perception_nodes.bag_transforms import Poses
from perception_nodes.bags import BagReader
from perception_nodes.judges.judgement import Judgement, Options, Watch
from perception_nodes.rgbd_bag import RgbdBag
from perception_nodes.scans import BASE

NOWHERE = np.full((4, 4), np.nan)
NOTE = "Map and bag must share a world: a map of the bag's own images knows them, so take another recording."


def in_process(path: Path, options: Options, watch: Watch) -> Judgement:
    """Find every image in the map, each without knowledge of the others."""
    relocalizer, latency = Relocalizer(SceneMap.load(_map(options)), threads=options.threads), LatencyLog()
    found, truth = [], []
    with RgbdBag(path, options.topic) as bag:
        for number, (_, frame) in enumerate(watch(bag, len(bag), "localizing")):
            if frame.pose is not None:
                fix = relocalizer.localize(frame.rgb, frame.camera_matrix)
                found.append(fix.pose if fix.valid else NOWHERE)
                truth.append(frame.pose)
                if number:
                    latency.add(relocalizer.timing)
    facts = {"map": str(options.map), "features": str(relocalizer.engine_info)}
    return _judgement(f"Relocalization of {path.name}", found, truth, latency.summary(), facts)


def recorded(path: Path, options: Options, watch: Watch) -> Judgement:
    """Judge the poses of base_link that the bag holds; an image without one counts as not found."""
    with BagReader(path) as reader:
        poses, images = Poses(reader), reader.image_topic(options.topic)
        answers = {stamp_of(message): message for _, _, message in reader.messages([bags.POSE])}
        found, truth = [], []
        for _, _, image in watch(reader.messages([images]), reader.count(images), "judging"):
            stamp = stamp_of(image)
            pose = poses.of(BASE, stamp)
            if pose is not None:
                found.append(decode_odometry(answers[stamp]) if stamp in answers else NOWHERE)
                truth.append(pose)
    return _judgement(f"Poses in {path.name}", found, truth, {}, {"poses": "as recorded in the bag"})


def node_parameters(options: Options) -> dict[str, object]:
    """ROS parameters of the relocalization node."""
    return {"map_file": str(_map(options)), "threads": options.threads or 0}


def _map(options: Options) -> Path:
    if options.map is None:
        raise ValueError("relocalization needs --map, a file of `perception map build`")
    path: Path = options.map
    return path


def _judgement(
    title: str,
    found: Sequence[Matrix],
    truth: Sequence[Matrix],
    latencies: Mapping[str, float],
    facts: Mapping[str, str],
) -> Judgement:
    if not truth:
        raise ValueError("the bag tells of no image where it was taken; there is nothing to judge")
    errors = pose_errors(found, truth)
    valid = np.asarray(np.isfinite(errors).all(axis=1))
    figures = {"images": float(len(truth)), **_finite(summarize(errors, valid)), **latencies}
    rows = [[name.replace("_", " "), as_cell(value)] for name, value in figures.items() if "latency" not in name]
    lines = {"reference": np.array(truth)[:, :3, 3], "found": np.array(found)[:, :3, 3]}
    report = Report(
        title=title,
        facts=facts,
        tables=[Table("Poses", ["", ""], rows), latency_table(latencies)],
        pictures=[("From above", draw_trajectories(lines))],
        notes=[NOTE],
    )
    shown = [f"{name:32} {value:8.3f}" for name, value in figures.items() if "latency" not in name or "total" in name]
    return Judgement("relocalization", report, figures, shown)


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    """JSON knows no infinity: a median over images of which most were not found is left out."""
    return {name: value for name, value in figures.items() if np.isfinite(value)}
