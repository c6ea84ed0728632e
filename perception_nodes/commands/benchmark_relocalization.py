# SPDX-License-Identifier: Apache-2.0
"""Measure how well a camera finds itself: methods against each other on the same images, a table for each split.

SRC is what `perception map build` takes, with poses and depth; a split says which of its images make the map and which
are looked for. Where given poses drift, --refine judges also by a reference that was moved until the query's depth fits
the map's. --doubtful counts what the landmark map says to damaged queries and to images of other places.

example: perception benchmark relocalization data/7scenes_redkitchen --splits interleaved "last 40 %" --refine
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.evaluation.relocalization import Split
    from perception_models.geometry.cameras import Matrix, RgbdFrame
    from perception_nodes.judges.relocalization_methods import Scene, Shot

SPLITS = ("interleaved", "last 40 %", "first 40 %", "blocks of 40")
METHODS = (
    "retrieved pose",
    "retrieval",
    "landmarks",
    "landmarks, few",
    "landmarks, seen once",
    "landmarks + lines",
    "network",
    "network + landmarks",
)
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
Figures = dict[str, dict[str, float | str]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", type=Path, metavar="SRC", help="bag or folder of images with poses and depth")
    parser.add_argument("--splits", nargs="+", default=["interleaved"], choices=SPLITS, help="default: interleaved")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS, help="default: all")
    parser.add_argument("--features", default="xfeat", help="xfeat or rootsift (default: %(default)s)")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="map only every N-th image that may be mapped"
    )
    parser.add_argument("--minutes", type=float, default=4.0, help="of training the network (default: %(default)s)")
    parser.add_argument("--refine", action="store_true", help="judge also by a reference without drift")
    parser.add_argument("--doubtful", action="store_true", help="also damaged images and 72 of simulated rooms")
    parser.add_argument("--others", type=Path, nargs="*", default=[], metavar="FOLDER", help="images of other places")
    parser.add_argument("--threads", type=int, default=2, help="compute threads (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write metrics.json."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.report import write_metrics

    scene = _scene(arguments)
    metrics: Figures = {}
    for name in arguments.splits:
        chosen = _split(name, len(scene.shots), arguments.every)
        references = {"given": [scene.shots[number].view.pose for number in chosen.queries]}
        if arguments.refine:
            references["refined"] = refined(scene, chosen)
        print(f"\n{name}: {len(chosen.map)} images map, {len(chosen.queries)} queries, {_distance(scene, chosen)}")
        for method in arguments.methods:
            figures = measure(scene, chosen, method, references)
            metrics.update({f"{name}: {method}, {against}": row for against, row in figures.items()})
            _show(method, figures)
        if arguments.doubtful:
            metrics.update(_doubtful(scene, chosen, arguments.others))
    if arguments.out:
        print(write_metrics(arguments.out, {**metrics, "run": {**machine(), "source": str(arguments.source)}}))
    return 0


def _scene(arguments: argparse.Namespace) -> Scene:
    """Look at every frame once."""
    from perception_models.relocalization.features import load_extractor
    from perception_nodes.commands.map import open_source
    from perception_nodes.judges.relocalization_methods import Scene, Shot

    extractor = load_extractor(arguments.features, threads=arguments.threads)
    with open_source(arguments.source, 1) as frames:
        shots: list[Shot] = [Shot.of(frame, extractor) for frame in frames]
    again = partial(_frames, arguments.source)
    return Scene(arguments.features, shots, again, arguments.minutes, arguments.threads)


def _frames(source: Path, numbers: Sequence[int]) -> Iterator[RgbdFrame]:
    """Some frames of the source, read again."""
    from perception_nodes.commands.map import open_all

    wanted = set(numbers)
    with open_all(source) as (_, frames):
        yield from (frame for number, frame in enumerate(frames) if number in wanted)


def _split(name: str, count: int, every: int) -> Split:
    from dataclasses import replace

    from perception_models.evaluation.relocalization import split

    chosen = split(name, count)
    return replace(chosen, map=chosen.map[::every])


def refined(scene: Scene, chosen: Split) -> list[Matrix]:
    """Poses of the queries, moved until their depth fits the map's."""
    import numpy as np

    from perception_models.evaluation.relocalization import refined_reference

    cloud = np.concatenate([scene.shots[number].points for number in chosen.map])
    queries = [scene.shots[number] for number in chosen.queries]
    return refined_reference(cloud, [shot.points for shot in queries], [shot.view.pose for shot in queries])


def _distance(scene: Scene, chosen: Split) -> str:
    """How far the queries are from the map's images, in words."""
    from perception_models.evaluation.relocalization import distance_to_map

    queries, mapped = ([scene.shots[n].view.pose for n in numbers] for numbers in (chosen.queries, chosen.map))
    far = distance_to_map(queries, mapped)
    return f"median {far['map_distance_cm']:.1f} cm, {far['map_angle_deg']:.1f} deg from the nearest map image"


def measure(scene: Scene, chosen: Split, method: str, references: dict[str, list[Matrix]]) -> Figures:
    """Build a map, find all queries -> figures by the name of the reference."""
    import numpy as np

    from perception_models.evaluation.relocalization import pose_errors, summarize
    from perception_nodes.judges.relocalization_methods import METHODS as BUILDERS

    began = time.perf_counter()
    built = BUILDERS[method](scene, chosen)
    seconds = time.perf_counter() - began + sum(_looking(scene.shots[n], built.lines) for n in chosen.map) / 1e3
    fixes, milliseconds = [], []
    for shot in (scene.shots[number] for number in chosen.queries):
        query, began = shot.query(built.lines), time.perf_counter()
        fixes.append(built.find(query))
        milliseconds.append(1e3 * (time.perf_counter() - began) + _looking(shot, built.lines))
    p50, p95 = np.percentile(milliseconds, (50, 95)).tolist()
    cost = {"map_mb": built.megabytes, "build_s": seconds, "p50_ms": p50, "p95_ms": p95}
    valid = np.array([fix.valid for fix in fixes])
    poses = [fix.pose for fix in fixes]
    return {name: {**summarize(pose_errors(poses, truth), valid), **cost} for name, truth in references.items()}


def _looking(shot: Shot, lines: bool) -> float:
    """Milliseconds that the features of a frame took."""
    return shot.point_ms + (shot.line_ms if lines else 0.0)


def _doubtful(scene: Scene, chosen: Split, others: Sequence[Path]) -> Figures:
    """Print and return counts of damaged queries, and of images of other places."""
    from perception_models.relocalization import Relocalizer, SceneMap
    from perception_nodes.judges import relocalization_strangers as strangers

    scene_map = SceneMap.from_views(scene.views(chosen), scene.features)
    relocalizer = Relocalizer(scene_map, threads=scene.threads)
    images = chain(strangers.images_under(others), strangers.simulated_images(72))
    camera_matrix = scene.shots[0].view.camera_matrix
    counts = {
        **strangers.count_damaged(relocalizer, scene.frames(chosen.queries)),
        "other places": strangers.count_strangers(relocalizer, images, camera_matrix),
    }
    for kind, found in counts.items():
        print(f"  {kind:20} {found.images} images, {found.valid} valid, {found.wrong} of them wrong", flush=True)
    return {f"{chosen.name}: {kind}": dict(found._asdict()) for kind, found in counts.items()}


def _show(method: str, figures: Figures) -> None:
    for against, row in figures.items():
        cells = "  ".join(f"{column} {row[column]:.2f}" for column in COLUMNS)
        print(f"  {method:20} {against:8} {cells}", flush=True)
