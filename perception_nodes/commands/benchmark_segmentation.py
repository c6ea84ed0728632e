# SPDX-License-Identifier: Apache-2.0
"""Measure segmentation step by step: super-points alone, with masks, with the cut; on rooms and on labelled clouds.

Rooms are simulated and held out. --clouds takes a folder of organised .pcd with label and rgba, one view each. With
--predictor truth masks are perfect, which shows what the steps after them can reach; none: geometry alone.

example: perception benchmark segmentation --clouds data/osd --out out/segmentation
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.evaluation.report import Report
    from perception_models.segmentation.pipeline import Segmenter
    from perception_nodes.judges.segmentation_scenes import Scene

COLUMNS = ("ap", "ap_50", "ap_25", "instances", "superpoints_s", "views_s", "step_s")
HELD_OUT = (9001, 9002, 9003)
PICTURED = "masks + geometry, cut"
Figures = dict[str, dict[str, float | str]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--rooms", nargs="*", type=int, default=HELD_OUT, metavar="SEED", help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=20, help="views of a room (default: %(default)s)")
    parser.add_argument("--clouds", type=Path, metavar="FOLDER", help="labelled clouds, such as mOSD's")
    parser.add_argument("--predictor", default="compact", help="a variant, truth or none (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="compute threads (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json, report.html and pictures")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write metrics.json, report.html and the pictures."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.report import write_metrics, write_report

    metrics: Figures = {}
    pictures: list[tuple[str, bytes]] = []
    for name, scenes in _sources(arguments).items():
        print(f"\n{name}, masks: {arguments.predictor}")
        figures = measure(scenes, arguments.predictor, arguments.threads, pictures)
        metrics.update({f"{name}: {method}": dict(row) for method, row in figures.items()})
    if arguments.out:
        print(write_metrics(arguments.out, {**metrics, "run": {**machine(), "predictor": arguments.predictor}}))
        for caption, png in pictures:
            (arguments.out / f"{caption.replace(' ', '_')}.png").write_bytes(png)
        print(write_report(arguments.out, [_report(metrics, pictures, arguments.predictor)]))
    return 0


def _sources(arguments: argparse.Namespace) -> dict[str, Iterable[Scene]]:
    """Scenes by the name of where they are from; each is made when it is wanted."""
    from perception_models.simulation.room_catalogue import Catalogue
    from perception_nodes.judges.labelled_clouds import labelled_clouds
    from perception_nodes.judges.segmentation_scenes import simulated

    sources: dict[str, Iterable[Scene]] = {}
    if arguments.rooms:
        sources["rooms"] = (simulated(seed, arguments.frames, Catalogue.fetched()) for seed in arguments.rooms)
    if arguments.clouds:
        sources["clouds"] = labelled_clouds(arguments.clouds)
    return sources


def measure(
    scenes: Iterable[Scene], predictor: str, threads: int, pictures: list[tuple[str, bytes]]
) -> dict[str, dict[str, float]]:
    """Every method on the same super-points and masks -> figures by method; pictures of the last are appended."""
    import numpy as np

    from perception_models.evaluation.instances import SceneLabels, instance_figures
    from perception_models.segmentation.affinity import WEIGHTS, AffinityModel
    from perception_nodes.judges.segmentation_methods import gathered, judged, methods, picture

    network = (
        AffinityModel.load(threads=threads) if (WEIGHTS / "model.onnx").is_file() and predictor != "none" else None
    )
    steps = methods(network)
    answers: dict[str, list[SceneLabels]] = {name: [] for name in steps}
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for scene, segmenter in _segmenters(scenes, predictor, threads):
        parts, spent = gathered(scene, segmenter)
        for name, method in steps.items():
            found, step = method.divide(scene, parts)
            answers[name].append(judged(scene, found))
            seconds[name].append({**spent, "step_s": step, "instances": float(len(found))})
            if name == PICTURED:
                pictures.append((scene.name, picture(scene, found, segmenter)))
    figures = {}
    for name, labels in answers.items():
        means = {key: float(np.mean([row[key] for row in seconds[name]])) for key in seconds[name][0]}
        figures[name] = {**instance_figures(labels), **means}
        cells = "  ".join(f"{column} {figures[name][column]:.2f}" for column in COLUMNS)
        print(f"  {name:28} {cells}", flush=True)
    return figures


def _segmenters(scenes: Iterable[Scene], predictor: str, threads: int) -> Iterator[tuple[Scene, Segmenter]]:
    """Each scene with the segmenter that judges it; the truth has another one for each."""
    from perception_models.segmentation.pipeline import Segmenter
    from perception_nodes.judges.true_masks import TruePredictor

    loaded = (
        Segmenter(threads=threads) if predictor in ("none", "truth") else Segmenter.load(predictor, threads=threads)
    )
    for scene in scenes:
        known = TruePredictor(scene.frames, scene.instances) if predictor == "truth" else None
        yield scene, Segmenter(known, threads=threads) if known else loaded


def _report(metrics: Figures, pictures: list[tuple[str, bytes]], predictor: str) -> Report:
    from perception_models.evaluation.report import Report, Table, as_cell

    rows = [[name, *(as_cell(float(row[column])) for column in COLUMNS)] for name, row in metrics.items()]
    table = Table("Step by step", ["", *COLUMNS], rows)
    shown = [(f"{caption}: image, truth, found", png) for caption, png in pictures]
    return Report("Segmentation", {"masks": predictor}, [table], pictures=shown)
