# SPDX-License-Identifier: Apache-2.0
"""Simulated scenes seen in pieces: fragments of a room, or scans along a street, prepared and with their true poses.

Making a scene takes seconds and turning it into a training pair a fraction of one, so scenes are kept in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame
from perception_models.registration.fragments import fuse
from perception_models.registration.preprocess import Cloud, prepare
from perception_models.registration.settings import INDOOR, LIDAR, SCALES
from perception_models.simulation.camera_path import sample_path
from perception_models.simulation.drive import simulate_drive
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_catalogue import Catalogue
from perception_models.simulation.rooms import Room, sample_room

Matrix = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

FRAGMENT_FRAMES = 50  # of 30 a second, as 3DMatch fuses them
RENDERED = 3  # every third frame is rendered
FRAGMENTS = 12  # of a room
CAMERA_WIDTH = 240  # pixels; more than one depth value for each voxel of 5 cm up to 4 m
NOISE = (0.8, 1.8)  # of the depth sensor: from a good Kinect to a poor one
OVERLAP = 1.5  # voxels between points that are the same surface
OVERLAP_SAMPLE = 400


@dataclass(frozen=True)
class Scene:
    """Clouds in their own frames; poses (K, 4, 4) cloud -> scene; overlaps (K, K): the share of cloud i within
    OVERLAP of cloud j."""

    clouds: Sequence[Cloud]
    poses: Matrix
    overlaps: Floats

    def save(self, path: Path) -> None:
        """Write to one .npz file, descriptors in half precision; a reader never sees a part of it."""
        lengths = [len(cloud) for cloud in self.clouds]
        arrays = {
            name: np.concatenate([getattr(cloud, name) for cloud in self.clouds])
            for name in ("points", "normals", "features")
        }
        arrays["features"] = arrays["features"].astype(np.float16)
        scale = next(name for name, settings in SCALES.items() if settings == self.clouds[0].settings)
        temporary = path.with_suffix(".tmp.npz")
        arrays |= {"lengths": np.array(lengths), "poses": self.poses, "overlaps": self.overlaps}
        np.savez(temporary, allow_pickle=False, scale=scale, **arrays)
        temporary.rename(path)

    @staticmethod
    def load(path: Path) -> Scene:
        """Read a file of `save`."""
        with np.load(path) as stored:
            settings = SCALES[str(stored["scale"])]
            ends = np.cumsum(stored["lengths"])[:-1]
            points, normals = np.split(stored["points"], ends), np.split(stored["normals"], ends)
            features = np.split(stored["features"].astype(np.float32), ends)
            clouds = [Cloud(*parts, settings) for parts in zip(points, normals, features, strict=True)]
            return Scene(clouds, stored["poses"], stored["overlaps"])


def room_scene(seed: int) -> Scene:
    """Fragments of one simulated room, each fused from FRAGMENT_FRAMES of a hand-held depth camera, in the frame of its
    first view."""
    rng = np.random.default_rng(seed)
    room, path = _walk(rng)
    camera = replace(KINECT.scaled(CAMERA_WIDTH / KINECT.width), noise=rng.uniform(*NOISE))
    clouds, poses = [], []
    for start in range(0, len(path), FRAGMENT_FRAMES):
        views = path[start : start + FRAGMENT_FRAMES : RENDERED]
        frames: list[RgbdFrame] = [room.render(pose, camera, rng, color=False).frame for pose in views]
        cloud = prepare(fuse(frames, INDOOR.voxel), INDOOR)
        if len(cloud) >= 500:  # a camera close to a wall sees nothing to register
            clouds.append(cloud)
            poses.append(path[start])
    return _scene(clouds, poses)


def _walk(rng: np.random.Generator) -> tuple[Room, Matrix]:
    """A room and a camera's path (F, 4, 4) through it; rooms too full to walk in are left."""
    while True:
        room = sample_room(rng, catalogue=Catalogue.fetched())
        with suppress(RuntimeError):
            return room, sample_path(room, rng, FRAGMENTS * FRAGMENT_FRAMES)


def street_scene(seed: int) -> Scene:
    """Scans of a simulated drive, 1 to 3 m apart on average, in the sensor's frame."""
    rng = np.random.default_rng(seed)
    frames = list(simulate_drive(seed, 5.0, motion_distortion=bool(rng.random() < 0.3)))[:: int(rng.integers(2, 6))]
    clouds = [prepare(frame.points[:, :3], LIDAR) for frame in frames]
    return _scene(clouds, [frame.pose for frame in frames])


SCENES: dict[str, Callable[[int], Scene]] = {"indoor": room_scene, "lidar": street_scene}


def _scene(clouds: Sequence[Cloud], poses: Sequence[Matrix]) -> Scene:
    stacked = np.stack(poses) if len(poses) else np.zeros((0, 4, 4))
    overlaps = np.eye(len(clouds), dtype=np.float32)
    for i, cloud in enumerate(clouds):
        sample = cloud.points[:: max(1, len(cloud) // OVERLAP_SAMPLE)]
        for j, other in enumerate(clouds):
            moved = se3.apply(se3.inverse(stacked[j]) @ stacked[i], sample)
            distance, _ = other.tree.query(moved, distance_upper_bound=OVERLAP * cloud.settings.voxel)
            overlaps[i, j] = np.isfinite(distance).mean()
    return Scene(clouds, stacked, overlaps)


def fill(folder: Path, kind: str, seed: int, count: int) -> Iterator[Path]:
    """Make scenes of a kind ("indoor", "lidar") in a folder until it has `count` of them; those there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{kind}-{number:05d}.npz"
        if not path.exists():
            scene = SCENES[kind](seed + number)
            if len(scene.clouds) > 1:
                scene.save(path)
                yield path
