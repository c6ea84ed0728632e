# SPDX-License-Identifier: Apache-2.0
"""Ways to find an image in a place measured side by side, all on the same key points: landmarks, with lines, thinned,
the scene's network, and what needs every map image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from perception_models.evaluation.relocalization import Split
from perception_models.geometry.cameras import Floats, RgbdFrame, frame_points
from perception_models.relocalization.features import FeatureExtractor
from perception_models.relocalization.fix import Fix, find, no_fix
from perception_models.relocalization.lines import Lines, detect_lines
from perception_models.relocalization.matching import Query
from perception_models.relocalization.network_fix import find_by_network
from perception_models.relocalization.retrieval import RetrievalMap
from perception_models.relocalization.scene_map import SceneMap
from perception_models.relocalization.scene_network import SceneNetwork
from perception_models.relocalization.segments import segments_of
from perception_models.relocalization.settings import FixSettings, MapSettings
from perception_models.relocalization.views import View, observe

STRIDE = 4  # of the pixels whose depth refines a reference
FEW = 8_000  # landmarks of the map that is made small
SETTINGS = FixSettings()


@dataclass(frozen=True)
class Shot:
    """One frame: its view with the depth of its lines, the lines as a query has them, some of its points in the world,
    and the milliseconds that its key points and its lines took."""

    view: View
    lines: Lines
    points: Floats
    point_ms: float
    line_ms: float

    @staticmethod
    def of(frame: RgbdFrame, extractor: FeatureExtractor) -> Shot:
        """Look at a frame."""
        began = time.perf_counter()
        view = observe(frame, extractor)
        observed = time.perf_counter()
        lines = detect_lines(frame.rgb, view.features)
        done = time.perf_counter()
        view = replace(view, segments=segments_of(lines, frame.depth))
        return Shot(view, lines, _some_points(frame), 1e3 * (observed - began), 1e3 * (done - observed))

    def query(self, lines: bool) -> Query:
        """The frame as an image to be found."""
        view = self.view
        return Query(view.features, view.camera_matrix, view.size, self.lines if lines else None)


@dataclass(frozen=True)
class Scene:
    """Frames of a place: `frames(numbers)` gives some of them again; minutes for training a network of the place."""

    features: str
    shots: Sequence[Shot]
    frames: Callable[[Sequence[int]], Iterable[RgbdFrame]]
    minutes: float = 4.0
    threads: int = 2

    def views(self, chosen: Split, lines: bool = False) -> list[View]:
        """Those that make the map."""
        views = [self.shots[number].view for number in chosen.map]
        return views if lines else [replace(view, segments=None) for view in views]


class Method(NamedTuple):
    """A map that was built by one method: finds a query's pose in it; its size (MB); whether it wants lines."""

    find: Callable[[Query], Fix]
    megabytes: float
    lines: bool = False


def _landmarks(scene: Scene, chosen: Split, settings: MapSettings | None = None) -> Method:
    settings = settings or MapSettings()
    built = SceneMap.from_views(scene.views(chosen, settings.lines), scene.features, settings, check=False)
    return Method(lambda query: find(query, built.landmarks, SETTINGS), megabytes(built), settings.lines)


def _network(scene: Scene, chosen: Split, refine: bool) -> Method:
    from perception_models.relocalization.train import Recipe, train_on_frames

    recipe = Recipe(minutes=scene.minutes, threads=scene.threads)
    network = train_on_frames(scene.frames(chosen.map), scene.features, recipe)
    loaded = SceneNetwork.from_bytes(network, scene.threads)
    size = len(network) / 1e6
    if not refine:
        return Method(lambda query: find_by_network(query, loaded, SETTINGS), size, lines=True)
    built = SceneMap.from_views(scene.views(chosen), scene.features, check=False)
    return Method(
        lambda query: find_by_network(query, loaded, SETTINGS, built.landmarks), size + megabytes(built), lines=True
    )


def _retrieval(scene: Scene, chosen: Split) -> Method:
    built = RetrievalMap(scene.views(chosen))
    return Method(lambda query: built.find(query, SETTINGS), built.megabytes)


def _retrieved_pose(scene: Scene, chosen: Split) -> Method:
    built = RetrievalMap(scene.views(chosen))
    return Method(lambda query: replace(no_fix(""), pose=built.nearest_pose(query), valid=True), built.megabytes)


METHODS: dict[str, Callable[[Scene, Split], Method]] = {
    "retrieved pose": _retrieved_pose,
    "retrieval": _retrieval,
    "landmarks": _landmarks,
    "landmarks, few": partial(_landmarks, settings=MapSettings(max_landmarks=FEW)),
    "landmarks, seen once": partial(_landmarks, settings=MapSettings(min_views=1)),
    "landmarks + lines": partial(_landmarks, settings=MapSettings(lines=True)),
    "network": partial(_network, refine=False),
    "network + landmarks": partial(_network, refine=True),
}


def megabytes(built: SceneMap) -> float:
    """Size of a map's file."""
    with TemporaryDirectory() as folder:
        return built.save(Path(folder) / "map").stat().st_size / 1e6


def _some_points(frame: RgbdFrame) -> Floats:
    """World points (N, 3) of every STRIDE-th pixel in both directions; none where the frame has no depth."""
    if frame.depth is None:
        return np.empty((0, 3), np.float32)
    depth = np.zeros_like(frame.depth)
    depth[::STRIDE, ::STRIDE] = frame.depth[::STRIDE, ::STRIDE]
    return frame_points(replace(frame, depth=depth))
