# SPDX-License-Identifier: Apache-2.0
"""Pairs of indoor fragments with their truth, fused from a sequence in the layout of 7-Scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.registration import LOW, overlap
from perception_models.geometry import se3
from perception_models.registration.fragments import fuse
from perception_models.registration.preprocess import thin_out
from perception_models.registration.settings import INDOOR
from perception_nodes.seven_scenes import SevenScenes

Floats = NDArray[np.float32]

FRAMES = 50  # of a fragment, as 3DMatch fuses them
REACH = 1.0  # voxels within which points count as shared


@dataclass(frozen=True)
class FragmentPair:
    """Numbers of two fragments, the true transform (4, 4) from the first to the second, and the smaller share of either
    that the other holds."""

    source: int
    target: int
    transform: NDArray[np.float64]
    overlap: float


def read_fragments(folder: Path) -> tuple[list[Floats], list[NDArray[np.float64]]]:
    """Fragments (N, 3) of every FRAMES frames in their first camera's frame, and that camera's poses (4, 4) in the
    world. Twice as fine as the voxel of `INDOOR`, which thins them."""
    frames = SevenScenes(folder)
    numbers = np.array(frames.numbers) // FRAMES
    clouds, poses = [], []
    for fragment in np.unique(numbers):
        views = [frames.depth_frame(int(index)) for index in np.flatnonzero(numbers == fragment)]
        pose = views[0].pose
        assert pose is not None
        clouds.append(fuse(views, INDOOR.voxel / 2))
        poses.append(pose)
    return clouds, poses


def overlapping(clouds: Sequence[Floats], poses: Sequence[NDArray[np.float64]]) -> Iterator[FragmentPair]:
    """All pairs of the fragments that overlap by LOW[0] at least."""
    thin = [thin_out(cloud, INDOOR.voxel) for cloud in clouds]
    for first in range(len(thin)):
        for second in range(first + 1, len(thin)):
            transform = se3.inverse(poses[second]) @ poses[first]
            shared = overlap(thin[first], thin[second], transform, REACH * INDOOR.voxel)
            if shared >= LOW[0]:
                yield FragmentPair(first, second, transform, shared)
