# SPDX-License-Identifier: Apache-2.0
"""Sequences with true depth and poses to judge reconstruction on, and the truth as the network's camera sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame, unproject
from perception_models.reconstruction.input import CanonicalCamera, prepare
from perception_models.simulation.rgbd_camera import RgbdCamera
from perception_models.simulation.room_catalogue import Catalogue
from perception_models.simulation.room_drive import simulate_room
from perception_nodes.commands.map import open_all

RATE = 5.0  # frames a second of a walk through a room: every sixth of a camera's thirty
ROOM_CAMERA = RgbdCamera(448, 320, 380.0)


@dataclass(frozen=True)
class Scene:
    """Frames in order; all have depth and a pose."""

    name: str
    frames: Sequence[RgbdFrame]


@dataclass(frozen=True)
class Truth:
    """Of one frame, in the network's camera: depth (H, W) m, 0 where it is not known or the input does not show the
    image; points (H, W, 3) in the world; pose (4, 4)."""

    depth: Floats
    points: Floats
    pose: Matrix

    @property
    def known(self) -> NDArray[np.bool_]:
        """Pixels (H, W) with depth."""
        return np.asarray(self.depth > 0)

    @staticmethod
    def of(frame: RgbdFrame, camera: CanonicalCamera) -> Truth:
        """What is true of a frame. Raises ValueError where it has no depth or no pose."""
        if frame.depth is None or frame.pose is None:
            raise ValueError("a frame needs depth and pose to judge by")
        given = prepare(frame.rgb, frame.camera_matrix, camera)
        depth = given.layout.depth(frame.depth)
        points = unproject(depth, given.layout.matrix(frame.camera_matrix))
        return Truth(depth, se3.apply(frame.pose, points).astype(np.float32), frame.pose)


def simulated(seed: int, frames: int, catalogue: Catalogue) -> Scene:
    """A held-out room on a walk through it, with exact depth."""
    views = simulate_room(seed, frames, ROOM_CAMERA, rate=RATE, catalogue=catalogue)
    return Scene(f"room {seed}", [replace(view.frame, depth=view.true_depth) for view in views])


def recorded(source: Path, chosen: slice) -> Scene:
    """Some of the frames of a bag or folder that have depth and a pose. Raises ValueError where none has."""
    with open_all(source) as (_, every):
        some = islice(every, chosen.start, chosen.stop, chosen.step)
        frames = [frame for frame in some if frame.depth is not None and frame.pose is not None]
    if not frames:
        raise ValueError(f"{source} has no frame with depth and pose among those asked for")
    return Scene("/".join(source.resolve().parts[-2:]), frames)
