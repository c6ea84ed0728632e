# SPDX-License-Identifier: Apache-2.0
"""Judges odometry from a bag's clouds against where the bag says that the sensor was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.odometry import places, summary
from perception_models.evaluation.report import Report, Table, as_cell, latency_table
from perception_models.evaluation.trajectory_picture import draw_trajectories
from perception_models.registration.odometry import Odometry
from perception_models.registration.pipeline import Registrar
from perception_nodes import bags
from perception_nodes.bag_messages import decode_odometry, stamp_of
from perception_nodes.bag_transforms import Poses
from perception_nodes.bags import BagReader
from perception_nodes.judges.judgement import Judgement, Options, Watch
from perception_nodes.scans import ScanBag

Trajectory = NDArray[np.float64]
NOWHERE = np.full((4, 4), np.nan)
NOTE = "The reference is what the bag says of the sensor's pose; where that drifts, the errors hold its drift as well."


def in_process(path: Path, options: Options, watch: Watch) -> Judgement:
    """Run odometry on every scan, in order."""
    registrar = Registrar.load(backend=options.backend, threads=options.threads)
    odometry, latency = Odometry(registrar=registrar), LatencyLog()
    found, truth = [], []
    with ScanBag(path, options.topic) as bag:
        for number, sweep in enumerate(watch(bag.sweeps(), len(bag), "following")):
            found.append(odometry.update(sweep.points, sweep.times, sweep.stamp * 1e-9).pose)
            truth.append(NOWHERE if sweep.pose is None else sweep.pose)
            if number:
                latency.add(odometry.timing)
    facts = {"registrar": str(registrar.engine_info)}
    return _judgement(f"Odometry on {path.name}", found, truth, latency.summary(), facts)


def recorded(path: Path, options: Options, watch: Watch) -> Judgement:
    """Judge the odometry that the bag holds; a scan without it counts as without a pose."""
    with BagReader(path) as reader:
        poses = Poses(reader)
        answers = {stamp_of(message): message for _, _, message in reader.messages([bags.ODOMETRY])}
        frame = next((message.child_frame_id for message in answers.values()), "base_link")
        clouds = reader.cloud_topic(options.topic)
        found, truth = [], []
        for _, _, cloud in watch(reader.messages([clouds]), reader.count(clouds), "judging"):
            stamp = stamp_of(cloud)
            found.append(decode_odometry(answers[stamp]) if stamp in answers else NOWHERE)
            pose = poses.of(frame, stamp)
            truth.append(NOWHERE if pose is None else pose)
    return _judgement(f"Odometry in {path.name}", found, truth, {}, {"odometry": "as recorded in the bag"})


def node_parameters(options: Options) -> dict[str, object]:
    """ROS parameters of the registration node."""
    return {"mode": "odometry", "publish_tf": False, "backend": options.backend, "threads": options.threads or 0}


def _judgement(
    title: str,
    found: Sequence[Trajectory],
    truth: Sequence[Trajectory],
    latencies: Mapping[str, float],
    facts: Mapping[str, str],
) -> Judgement:
    estimate, reference = np.array(found), np.array(truth)
    figures = {"scans": float(len(estimate)), **summary(estimate, reference), **latencies}
    rows = [[name.replace("_", " "), as_cell(value)] for name, value in figures.items() if "latency" not in name]
    lines = {"reference": reference[:, :3, 3], "odometry": places(estimate, reference)}
    report = Report(
        title=title,
        facts=facts,
        tables=[Table("Trajectory", ["", ""], rows), latency_table(latencies)],
        pictures=[("From above, moved onto each other at the first scan", draw_trajectories(lines))],
        notes=[NOTE],
    )
    shown = [f"{name:32} {value:8.3f}" for name, value in figures.items() if "latency" not in name or "total" in name]
    return Judgement("registration", report, figures, shown)
