# SPDX-License-Identifier: Apache-2.0
"""Places to learn the scores of pairs from: simulated rooms as a walk shows them, and close views of their things."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from perception_models.segmentation.affinity_data import Place, View
from perception_models.segmentation.evidence import Predictor
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.simulation.camera_path import sample_path
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_catalogue import Catalogue
from perception_models.simulation.room_tours import HEAPS, with_planes
from perception_models.simulation.room_views import close_views
from perception_models.simulation.rooms import sample_room

ROOM_VOXEL, CLOSE_VOXEL = 0.02, 0.005  # m, of a walk's cloud and of a close view's
RATE = 1.5  # frames a second of a walk


def room_places(seed: int, walk: int, close: int, catalogue: Catalogue, predictor: Predictor) -> list[Place]:
    """A room from `walk` views together, then from at most `close` views, each a place of its own. The planes of the
    building are things too."""
    rng = np.random.default_rng(seed)
    while True:
        room = sample_room(rng, catalogue=catalogue, heaps=int(rng.integers(HEAPS + 1)))
        with suppress(RuntimeError):  # rooms too full to walk in are left
            path = sample_path(room, rng, walk, RATE)
            break
    named = replace(room, mesh=with_planes(room.mesh))
    stops = [(pose, KINECT) for pose in path] + list(close_views(room, rng, close, KINECT.width, KINECT.height))
    seen = [named.render(pose, camera, rng) for pose, camera in stops]
    views: list[View] = [(view.frame, view.instances) for view in seen]
    settings = SegmentationSettings()
    whole = Place.of(views[:walk], predictor, settings, ROOM_VOXEL)
    return [whole, *(Place.of([view], predictor, settings, CLOSE_VOXEL) for view in views[walk:])]


def places_in(folder: Path, seed: int, rooms: int, make: Callable[[int], list[Place]]) -> list[list[Place]]:
    """The places of `rooms` rooms, kept in `folder` so that each is looked at once."""
    folder.mkdir(parents=True, exist_ok=True)
    places = []
    for number in range(rooms):
        path = folder / f"room-{seed}-{number:04d}.pickle"
        if not path.exists():
            path.with_suffix(".tmp").write_bytes(pickle.dumps(make(1000 * seed + number)))
            path.with_suffix(".tmp").rename(path)
        places.append(pickle.loads(path.read_bytes()))
    return places
