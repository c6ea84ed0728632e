# SPDX-License-Identifier: Apache-2.0
"""A camera carried through a room: RGB-D frames with stamps, poses and instances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import RgbdFrame
from perception_models.simulation.camera_path import sample_path
from perception_models.simulation.rgbd_camera import KINECT, RgbdCamera
from perception_models.simulation.room_catalogue import PROCEDURAL, Catalogue
from perception_models.simulation.rooms import sample_room


@dataclass(frozen=True)
class RoomFrame:
    """A frame `stamp` seconds after the start, with the exact depth (H, W) and the instance (H, W) of each pixel."""

    stamp: float
    frame: RgbdFrame
    true_depth: NDArray[np.float32]
    instances: NDArray[np.int32]


def simulate_room(
    seed: int,
    frames: int,
    camera: RgbdCamera = KINECT,
    color: bool = True,
    rate: float = 30.0,
    walk: int = 0,
    handheld: bool = True,
    catalogue: Catalogue = PROCEDURAL,
) -> Iterator[RoomFrame]:
    """Frames of a camera, `rate` a second; another `seed` is another room, another `walk` another path through the
    same. `handheld` False: a robot carries it, level and at one height. Poses are camera (optical frame) -> room."""
    room = sample_room(np.random.default_rng([seed, 0]), catalogue=catalogue)
    rng = np.random.default_rng([seed, 1, walk])
    for number, pose in enumerate(sample_path(room, rng, frames, rate, handheld)):
        view = room.render(pose, camera, rng, color)
        yield RoomFrame(number / rate, view.frame, view.true_depth, view.instances)
