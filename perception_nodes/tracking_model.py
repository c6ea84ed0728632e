# SPDX-License-Identifier: Apache-2.0
"""What the tracking node is set to, and the tracker that it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from perception_models.geometry import se3
from perception_models.tracking import MultiTracker, TrackState
from perception_nodes.interfaces import Model
from perception_nodes.parameters import Parameters, parameter
from perception_nodes.point_clouds import Points


@dataclass(frozen=True)
class TrackingParameters(Parameters):
    """Run-time tuning of the tracking node; facts of the model travel with its weights."""

    variant: str = parameter("compact", "weights: a folder of models/tracking/weights", fixed=True)
    backend: str = parameter(
        "auto", "engine; auto is TensorRT where it runs", choices=("auto", "onnxruntime", "tensorrt"), fixed=True
    )
    threads: int = parameter(0, "threads of the engine on the CPU; 0 lets it choose", low=0, high=256, fixed=True)
    fixed_frame: str = parameter(
        "odom", "frame that stands still, from which TF tells how the sensor moved; empty: the sensor does", fixed=True
    )
    tf_timeout: float = parameter(
        0.1, "longest wait for a transform at the scan's stamp", unit="s", low=0.0, high=5.0, fixed=True
    )
    start_age: float = parameter(
        0.5, "a box that is so much older or newer than the newest cloud is not followed", unit="s", low=0.0, high=10.0
    )
    click_distance: float = parameter(
        1.0, "farthest detection from a clicked point, seen from above", unit="m", low=0.0, high=20.0
    )
    start_all: bool = parameter(False, "follow each detection that has an id and start_points points, once")
    start_points: int = parameter(10, "points in its box with which start_all begins", low=1, high=100000)
    forget_after: float = parameter(3.0, "a target lost for so long is dropped", unit="s", low=0.0, high=3600.0)
    publish_markers: bool = parameter(True, "publish ~/markers where someone listens")
    path_step: float = parameter(0.2, "from pose to pose of ~/path", unit="m", low=0.0, high=100.0, fixed=True)
    path_poses: int = parameter(500, "of ~/path; the oldest go", low=1, high=100000, fixed=True)


class AnyMultiTracker(Model, Protocol):
    """What the node needs of a tracker; tests give one of their own."""

    def add(self, identity: str, points: Points, box: Points) -> None:
        """Follow what is in a box (7,) of a cloud (N, 4). Raises ValueError where it cannot."""
        ...

    def remove(self, identity: str) -> None:
        """Follow one less."""
        ...

    def track(self, points: Points, ego_motion: se3.Matrix | None, seconds: float) -> Mapping[str, TrackState]:
        """The states of all targets in the next cloud."""
        ...


def load_tracker(parameters: TrackingParameters) -> MultiTracker:
    """The tracker that the parameters ask for."""
    return MultiTracker.load(parameters.variant, parameters.backend, parameters.threads or None)
