# SPDX-License-Identifier: Apache-2.0
"""Judges depth and the camera's way that a bag's images tell against what the bag says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.depth import Pair, depth_figures, judged
from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.odometry import given, path_length, places
from perception_models.evaluation.report import Report, Table, as_cell, latency_table
from perception_models.evaluation.trajectory_picture import draw_trajectories
from perception_models.geometry.cameras import RgbdFrame
from perception_models.reconstruction import Reconstructor, View
from perception_models.reconstruction.backend import EngineNetwork
from perception_models.reconstruction.input import CanonicalCamera, prepare
from perception_models.reconstruction.pipeline import weights_folder
from perception_nodes import bags
from perception_nodes.bag_messages import decode_odometry, stamp_of
from perception_nodes.bag_transforms import Poses
from perception_nodes.bags import BagReader
from perception_nodes.judges.judgement import Judgement, Options, Watch
from perception_nodes.judges.reconstruction_figures import pose_figures
from perception_nodes.rgbd_bag import RgbdBag

Trajectory = NDArray[np.float64]
NOWHERE = np.full((4, 4), np.nan)
EVERY = 5  # of the pixels with depth, one is judged
NOTE = (
    "The network gets images and the camera's matrix, nothing else. Figures with metric in their names are of its "
    "metres as they are, others after one scale for all of the bag. In process a pose in another world than the first "
    "is none."
)


def in_process(path: Path, options: Options, watch: Watch) -> Judgement:
    """Every image of the bag, in order."""
    network = EngineNetwork.load(weights_folder(options.variant), options.backend, options.threads)
    reconstructor, latency = Reconstructor(network), LatencyLog()
    found, truth, pairs, worlds = list[Trajectory](), list[Trajectory](), list[Pair](), 0
    with RgbdBag(path, options.topic) as bag:
        for number, (_, frame) in enumerate(watch(bag, len(bag), "reconstructing")):
            view = reconstructor.update(frame.rgb, frame.camera_matrix)
            worlds = max(worlds, view.world + 1)
            found.append(view.pose if view.world == 0 else NOWHERE)
            truth.append(NOWHERE if frame.pose is None else frame.pose)
            pairs += _depths(view, frame, network.camera)
            if number:  # the first pays for what is set up on first use
                latency.add(reconstructor.timing)
    facts = {"model": options.variant, "engine": str(reconstructor.engine_info)}
    reconstructor.close()
    figures = {"worlds": float(worlds), **depth_figures(pairs), **latency.summary()}
    return _judgement(f"Reconstruction of {path.name}", found, truth, figures, facts)


def recorded(path: Path, options: Options, watch: Watch) -> Judgement:
    """Judge the odometry that the bag holds; an image without it counts as without a pose."""
    with BagReader(path) as reader:
        poses, images = Poses(reader), reader.image_topic(options.topic)
        answers = {stamp_of(message): message for _, _, message in reader.messages([bags.ODOMETRY])}
        frame = next((message.child_frame_id for message in answers.values()), "base_link")
        found, truth = list[Trajectory](), list[Trajectory]()
        for _, _, image in watch(reader.messages([images]), reader.count(images), "judging"):
            stamp = stamp_of(image)
            pose = poses.of(frame, stamp)
            found.append(decode_odometry(answers[stamp]) if stamp in answers else NOWHERE)
            truth.append(NOWHERE if pose is None else pose)
    return _judgement(f"Poses in {path.name}", found, truth, {}, {"odometry": "as recorded in the bag"})


def node_parameters(options: Options) -> dict[str, object]:
    """ROS parameters of the reconstruction node: every image is a key frame, as in process; TF is waited for."""
    every = {"key_distance": 0.0, "key_angle": 0.0, "key_time": 0.0}
    model = {"variant": options.variant, "backend": options.backend, "threads": options.threads or 0}
    return {**every, **model, "map_frame": "map", "publish_tf": False, "tf_timeout": 1.0}


def _depths(view: View, frame: RgbdFrame, camera: CanonicalCamera) -> list[Pair]:
    """Some of the depths that were found, and the true ones, m; none where one of them is not known."""
    if frame.depth is None or not view.valid:
        return []
    truth = prepare(frame.rgb, frame.camera_matrix, camera).layout.depth(frame.depth)
    found, true = judged(view.depth, truth, view.mask)
    return [(found[::EVERY], true[::EVERY])]


def _judgement(
    title: str,
    found: Sequence[Trajectory],
    truth: Sequence[Trajectory],
    more: Mapping[str, float],
    facts: Mapping[str, str],
) -> Judgement:
    estimate, reference = np.array(found), np.array(truth)
    if not len(reference) or not given(reference).any():
        raise ValueError("the bag tells of no image where it was taken; there is nothing to judge")
    counts = {"images": float(len(found)), "valid": float(given(estimate).mean()), "path_m": path_length(reference)}
    figures = {**counts, **pose_figures(estimate, reference), **more}
    rows = [[name.replace("_", " "), as_cell(value)] for name, value in figures.items() if "latency" not in name]
    latencies = {name: value for name, value in figures.items() if "latency" in name}
    lines = {"reference": reference[:, :3, 3], "reconstruction": places(estimate, reference)}
    report = Report(
        title=title,
        facts=facts,
        tables=[Table("Depth and poses", ["", ""], rows), latency_table(latencies)],
        pictures=[("From above, moved onto each other at the first image", draw_trajectories(lines))],
        notes=[NOTE],
    )
    shown = [f"{name:32} {value:8.3f}" for name, value in figures.items() if "latency" not in name or "total" in name]
    return Judgement("reconstruction", report, figures, shown)
