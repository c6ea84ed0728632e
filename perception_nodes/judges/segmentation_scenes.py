# SPDX-License-Identifier: Apache-2.0
"""Clouds with true instances to judge segmentation on: simulated rooms, and folders of labelled organised clouds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame, unproject
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_catalogue import PROCEDURAL, Catalogue
from perception_models.simulation.room_drive import RoomFrame, simulate_room

Floats = NDArray[np.float32]
VOXEL = 0.02  # m, of which one point is kept
RATE = 1.5  # frames a second of a walk through a room


@dataclass(frozen=True)
class Scene:
    """points (N, 3) m, colours (N, 3), true instance (N,) of each point, -1 where none is judged; the frames with the
    true instance (H, W) of every pixel."""

    name: str
    points: Floats
    colors: NDArray[np.uint8]
    truth: NDArray[np.int32]
    frames: Sequence[RgbdFrame]
    instances: Sequence[NDArray[np.int32]]


def simulated(seed: int, frames: int = 20, catalogue: Catalogue = PROCEDURAL, voxel: float = VOXEL) -> Scene:
    """A room as a walk through it shows it; what belongs to the building is not judged."""
    views = list(simulate_room(seed, frames, KINECT, rate=RATE, catalogue=catalogue))
    points, colors, truth = (np.concatenate(parts) for parts in zip(*map(_seen, views), strict=True))
    kept = thinned(points, voxel)
    truth = np.where(truth == 0, -1, truth)[kept]
    instances = [view.instances for view in views]
    return Scene(f"room {seed}", points[kept], colors[kept], truth, [view.frame for view in views], instances)


def thinned(points: Floats, voxel: float) -> NDArray[np.int64]:
    """The first point of each voxel, by place."""
    cells = np.floor((points - points.min(axis=0)) / voxel).astype(np.int64)
    _, first = np.unique(np.ravel_multi_index(tuple(cells.T), tuple(cells.max(axis=0) + 1)), return_index=True)
    return first


def _seen(view: RoomFrame) -> tuple[Floats, NDArray[np.uint8], NDArray[np.int32]]:
    """World points of a frame's pixels with depth, their colours and instances; an edge's false depth is left out."""
    frame = view.frame
    assert frame.depth is not None and frame.pose is not None
    good = (frame.depth > 0) & (np.abs(frame.depth - view.true_depth) < 0.05)
    points = se3.apply(frame.pose, unproject(frame.depth, frame.camera_matrix)[good]).astype(np.float32)
    return points, frame.rgb[good], view.instances[good]
