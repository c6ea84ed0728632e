# SPDX-License-Identifier: Apache-2.0
"""Tours of simulated rooms to learn from: a camera's path through each, and close views of what is in it.

Rendering a view takes longer than learning from it, so tours are kept in a folder, a folder each, and read from there
again and again: `python -m perception_models.simulation.room_tours FOLDER` makes them, as many processes as are wanted.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.camera_path import sample_path
from perception_models.simulation.rgbd_camera import RgbdCamera
from perception_models.simulation.room_catalogue import Catalogue
from perception_models.simulation.room_mesh import RoomMesh
from perception_models.simulation.room_views import close_views, random_camera
from perception_models.simulation.rooms import Room, RoomView, sample_room

Matrix = NDArray[np.float64]
Rng = np.random.Generator
WIDTH, HEIGHT = 448, 336
ON_PATH, CLOSE = 18, 10  # views
GAP = 6  # frames of 30 a second between views on a path
FOCAL = (330.0, 440.0)  # pixels, of the camera on a path
HEAPS = 3  # of clutter, at most
SMALLEST = 60  # pixels of a part at half of the resolution
COMPACT = 0.5  # least share of a part that is left after an opening: less is speckle or hair
MOST = 255  # parts of a view


@dataclass(frozen=True)
class Tour:
    """Views (V, ...) of one room; the first `ON_PATH` of them, in order, are a camera's on its path.

    rgb (V, H, W, 3) uint8; sensed (V, H, W) float16, depth in metres as a sensor gives it, 0 where it gives none; parts
    (V, H, W) uint8, what a pixel shows: 0 nothing, then things, then planes of the building; whole (V, MOST + 1) bool,
    which parts are large and whole enough to be asked for; things (V,), the largest number of a thing; small_rgb and
    small_depth (V, H / 2, W / 2, ...), the latter float16 and exact; poses (V, 4, 4), optical frame -> room; focal
    (V,), pixels at full size.
    """

    rgb: NDArray[np.uint8]
    sensed: NDArray[np.float16]
    parts: NDArray[np.uint8]
    whole: NDArray[np.bool_]
    things: NDArray[np.int64]
    small_rgb: NDArray[np.uint8]
    small_depth: NDArray[np.float16]
    poses: Matrix
    focal: Matrix

    def save(self, folder: Path) -> None:
        """Write a folder of arrays; a reader never sees a part of it."""
        temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        temporary.mkdir(parents=True)
        for field in fields(self):
            np.save(temporary / f"{field.name}.npy", getattr(self, field.name))
        if folder.exists():
            shutil.rmtree(temporary)
        else:
            temporary.rename(folder)

    @staticmethod
    def load(folder: Path) -> Tour:
        """Open a folder of `save`; arrays are read from the disk when they are looked at."""
        return Tour(**{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(Tour)})


def make_tour(seed: int, catalogue: Catalogue, on_path: int = ON_PATH, close: int = CLOSE) -> Tour:
    """A new room, seen on a path and close up."""
    rng = np.random.default_rng(seed)
    room, path = _walk(rng, catalogue, on_path * GAP)
    steady = random_camera(rng, WIDTH, HEIGHT, rng.uniform(*FOCAL))
    stops = [(pose, steady) for pose in path[::GAP]] + list(close_views(room, rng, close, WIDTH, HEIGHT))
    named = replace(room, mesh=with_planes(room.mesh))
    views = [named.render(pose, camera, rng) for pose, camera in stops]
    return _gathered(views, [camera for _, camera in stops], int(room.mesh.instances.max()))


def _walk(rng: Rng, catalogue: Catalogue, frames: int) -> tuple[Room, Matrix]:
    """A room and a camera's path (F, 4, 4) through it; rooms too full to walk in are left."""
    while True:
        chosen = replace(catalogue, share=rng.uniform(0.2, 0.8))
        room = sample_room(rng, catalogue=chosen, heaps=int(rng.integers(HEAPS + 1)))
        with suppress(RuntimeError):
            return room, sample_path(room, rng, frames, handheld=bool(rng.random() < 0.7))


def with_planes(mesh: RoomMesh) -> RoomMesh:
    """The mesh with the building's faces numbered too, beyond the things: one number for each plane of it."""
    building = np.flatnonzero(mesh.instances == 0)
    normals = mesh.normals[building]
    offsets = np.einsum("fi,fi->f", mesh.vertices[mesh.faces[building, 0]], normals)
    keys = np.column_stack([np.rint(4 * normals), np.rint(10 * offsets)]).astype(np.int64)
    _, plane = np.unique(keys, axis=0, return_inverse=True)
    instances = mesh.instances.copy()
    instances[building] = mesh.instances.max() + 1 + plane.ravel()
    return replace(mesh, instances=instances)


def _gathered(views: Sequence[RoomView], cameras: Sequence[RgbdCamera], last_thing: int) -> Tour:
    numbered = [_numbered(view.instances, last_thing) for view in views]
    half = WIDTH // 2, HEIGHT // 2
    return Tour(
        rgb=np.stack([view.frame.rgb for view in views]),
        sensed=np.stack([np.asarray(view.frame.depth) for view in views]).astype(np.float16),
        parts=np.stack([parts for parts, _ in numbered]),
        whole=np.stack([whole_parts(parts) for parts, _ in numbered]),
        things=np.array([things for _, things in numbered]),
        small_rgb=np.stack([cv2.resize(view.frame.rgb, half, interpolation=cv2.INTER_AREA) for view in views]),
        small_depth=np.stack([view.true_depth[::2, ::2] for view in views]).astype(np.float16),
        poses=np.stack([np.asarray(view.frame.pose) for view in views]),
        focal=np.array([camera.focal_length for camera in cameras]),
    )


def _numbered(instances: NDArray[np.int32], last_thing: int) -> tuple[NDArray[np.uint8], int]:
    """Parts (H, W) counted from 1 in the order of their instances, and the number of the last thing."""
    kinds, counts = np.unique(instances[instances > 0], return_counts=True)
    kinds = np.sort(kinds[np.argsort(-counts)[:MOST]])
    numbers = np.zeros(max(instances.max(), 0) + 1, np.uint8)
    numbers[kinds] = 1 + np.arange(len(kinds))
    return numbers[instances], int((kinds <= last_thing).sum())


def whole_parts(parts: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which parts (MOST + 1,) of a view (H, W) are large and whole enough to be asked for."""
    half = parts[::2, ::2]
    kernel = np.ones((3, 3), np.uint8)
    whole = np.zeros(MOST + 1, bool)
    for number in np.flatnonzero(np.bincount(half.ravel(), minlength=MOST + 1) >= SMALLEST):
        mask = (half == number).astype(np.uint8)
        whole[number] = number > 0 and cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel).sum() >= COMPACT * mask.sum()
    return whole


class Tours:
    """The tours in a folder, to draw from while others are added."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[str, Tour] = {}

    def __len__(self) -> int:
        return len(self._opened)

    def refresh(self) -> None:
        """Open those that are new."""
        for path in sorted(self._folder.glob("tour-*")):
            if path.suffix != ".tmp" and path.name not in self._opened:
                self._opened[path.name] = Tour.load(path)

    def draw(self, rng: Rng) -> Tour:
        """One of them. Raises FileNotFoundError where there is none."""
        if not self._opened:
            raise FileNotFoundError(f"{self._folder} holds no tour; see the module room_tours")
        return list(self._opened.values())[int(rng.integers(len(self._opened)))]


def fill(folder: Path, seed: int, first: int, count: int, step: int = 1) -> None:
    """Make the tours number `first`, `first + step`, ... below `count` that are not there yet."""
    catalogue = Catalogue.fetched()
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, count, step):
        path = folder / f"tour-{number:06d}"
        if not path.exists():
            make_tour(1_000_000 * seed + number, catalogue).save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: fill a folder with several processes."""
    from multiprocessing import get_context

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200, help="tours in all (default: %(default)s; 30 MB each)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args(arguments)
    makers = [
        get_context("spawn").Process(
            target=fill, args=(chosen.folder, chosen.seed, number, chosen.count, chosen.processes)
        )
        for number in range(chosen.processes)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()


if __name__ == "__main__":
    main()
