# SPDX-License-Identifier: Apache-2.0
"""Measure how well a camera finds itself: methods against each other on the same images, a table for each split.

SRC is a folder of images with poses and depth; a split says which of them make the map and which are looked for.
Where given poses drift, --refine judges by a reference that was moved until the query's depth fits the map's.

example: perception benchmark relocalization data/7scenes_redkitchen --splits interleaved "last 40 %" --refine
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.evaluation.relocalization import Split
    from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame
    from perception_models.relocalization.fix import Fix
    from perception_models.relocalization.matching import Query
    from perception_models.relocalization.views import View

SPLITS = ("interleaved", "last 40 %", "first 40 %", "blocks of 40")
COLUMNS = (
    "median_cm",
    "median_deg",
    "within_5cm_5deg",
    "valid",
    "wrong_valid",
    "map_mb",
    "build_s",
    "p50_ms",
    "p95_ms",
)
STRIDE = 4  # of the pixels whose depth refines a reference


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of images with poses and depth")
    parser.add_argument("--splits", nargs="+", default=["interleaved"], choices=SPLITS, help="default: interleaved")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="default: all")
    parser.add_argument("--features", default="xfeat", help="xfeat or rootsift (default: %(default)s)")
    parser.add_argument("--refine", action="store_true", help="judge also by a reference without drift")
    parser.add_argument("--threads", type=int, help="of the features (default: half of the cores, at least 2)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write metrics.json."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.relocalization import split
    from perception_models.evaluation.report import write_metrics
    from perception_nodes.posed_images import open_images
    from perception_nodes.progress import progress

    images = open_images(arguments.source)
    scene = Scene.observe(progress(images, len(images), "finding features"), arguments.features, arguments.threads)
    metrics: dict[str, dict[str, float | str]] = {}
    for name in arguments.splits:
        chosen = split(name, len(scene.views))
        references = scene.references(chosen, arguments.refine)
        facts = scene.distance(chosen)
        print(f"\n{name}: {len(chosen.map)} images map, {len(chosen.queries)} queries, {facts}")
        for method in arguments.methods:
            figures = measure(scene, chosen, method, references)
            metrics.update({f"{name}: {method}, {against}": row for against, row in figures.items()})
            _show(method, figures)
    if arguments.out:
        print(write_metrics(arguments.out, {**metrics, "run": {**machine(), "source": str(arguments.source)}}))
    return 0


@dataclass(frozen=True)
class Scene:
    """All frames of a folder as views, with the milliseconds that their features took, and their depth as points."""

    features: str
    views: list[View]
    milliseconds: list[float]
    points: list[Floats]

    @staticmethod
    def observe(frames: Iterable[RgbdFrame], features: str, threads: int | None) -> Scene:
        """Find the features of every frame with a pose."""
        from perception_models.relocalization.features import load_extractor
        from perception_models.relocalization.views import observe

        extractor = load_extractor(features, threads=threads)
        views, milliseconds, points = [], [], []
        for frame in frames:
            began = time.perf_counter()
            views.append(observe(frame, extractor))
            milliseconds.append(1e3 * (time.perf_counter() - began))
            points.append(_some_points(frame))
        return Scene(features, views, milliseconds, points)

    def query(self, number: int) -> Query:
        """A frame as an image to be found."""
        from perception_models.relocalization.matching import Query

        view = self.views[number]
        return Query(view.features, view.camera_matrix, view.size)

    def references(self, chosen: Split, refine: bool) -> dict[str, list[Matrix]]:
        """Poses of the queries to judge by: as given, and as refined."""
        import numpy as np

        from perception_models.evaluation.relocalization import refined_reference

        given = [self.views[number].pose for number in chosen.queries]
        if not refine:
            return {"given": given}
        scene = np.concatenate([self.points[number] for number in chosen.map])
        return {"given": given, "refined": refined_reference(scene, [self.points[q] for q in chosen.queries], given)}

    def distance(self, chosen: Split) -> str:
        """How far the queries are from the map's images, in words."""
        from perception_models.evaluation.relocalization import distance_to_map

        poses = [view.pose for view in self.views]
        far = distance_to_map([poses[number] for number in chosen.queries], [poses[number] for number in chosen.map])
        return f"median {far['map_distance_cm']:.1f} cm, {far['map_angle_deg']:.1f} deg from the nearest map image"


@dataclass(frozen=True)
class Method:
    """A map that was built by one method: find a query's pose in it; its size (MB)."""

    find: Callable[[Query], Fix]
    megabytes: float


def measure(
    scene: Scene, chosen: Split, method: str, references: dict[str, list[Matrix]]
) -> dict[str, dict[str, float | str]]:
    """Build a map, find all queries -> figures by the name of the reference."""
    import numpy as np

    from perception_models.evaluation.relocalization import pose_errors, summarize

    began = time.perf_counter()
    built = METHODS[method](scene, chosen)
    seconds = time.perf_counter() - began + sum(scene.milliseconds[number] for number in chosen.map) / 1e3
    fixes, milliseconds = [], []
    for number in chosen.queries:
        query, began = scene.query(number), time.perf_counter()
        fixes.append(built.find(query))
        milliseconds.append(1e3 * (time.perf_counter() - began) + scene.milliseconds[number])
    p50, p95 = np.percentile(milliseconds, (50, 95)).tolist()
    cost = {"map_mb": built.megabytes, "build_s": seconds, "p50_ms": p50, "p95_ms": p95}
    valid = np.array([fix.valid for fix in fixes])
    poses = [fix.pose for fix in fixes]
    return {name: {**summarize(pose_errors(poses, truth), valid), **cost} for name, truth in references.items()}


def _landmarks(scene: Scene, chosen: Split) -> Method:
    from perception_models.relocalization.fix import find
    from perception_models.relocalization.scene_map import SceneMap
    from perception_models.relocalization.settings import FixSettings

    built = SceneMap.from_views([scene.views[number] for number in chosen.map], scene.features, check=False)
    with TemporaryDirectory() as folder:
        size = built.save(Path(folder) / "map").stat().st_size / 1e6
    return Method(lambda query: find(query, built.landmarks, FixSettings()), size)


def _retrieval(scene: Scene, chosen: Split) -> Method:
    from perception_models.relocalization.retrieval import RetrievalMap
    from perception_models.relocalization.settings import FixSettings

    built = RetrievalMap([scene.views[number] for number in chosen.map])
    return Method(lambda query: built.find(query, FixSettings()), built.megabytes)


def _retrieved_pose(scene: Scene, chosen: Split) -> Method:
    from dataclasses import replace

    from perception_models.relocalization.fix import no_fix
    from perception_models.relocalization.retrieval import RetrievalMap

    built = RetrievalMap([scene.views[number] for number in chosen.map])
    return Method(lambda query: replace(no_fix(""), pose=built.nearest_pose(query), valid=True), built.megabytes)


METHODS: dict[str, Callable[[Scene, Split], Method]] = {
    "retrieved pose": _retrieved_pose,
    "retrieval": _retrieval,
    "landmarks": _landmarks,
}


def _some_points(frame: RgbdFrame) -> Floats:
    """World points (N, 3) of every STRIDE-th pixel in both directions; none where the frame has no depth."""
    from dataclasses import replace

    import numpy as np

    from perception_models.geometry.cameras import frame_points

    if frame.depth is None:
        return np.empty((0, 3), np.float32)
    depth = np.zeros_like(frame.depth)
    depth[::STRIDE, ::STRIDE] = frame.depth[::STRIDE, ::STRIDE]
    return frame_points(replace(frame, depth=depth))


def _show(method: str, figures: dict[str, dict[str, float | str]]) -> None:
    for against, row in figures.items():
        cells = "  ".join(f"{column} {row[column]:.2f}" for column in COLUMNS)
        print(f"  {method:16} {against:8} {cells}", flush=True)
