# SPDX-License-Identifier: Apache-2.0
"""Measure reconstruction: depth, path, cloud and time of the network with and without its state, beside what does not
look at the image.

SRC are bags or folders of images with depth and poses; rooms are simulated and held out. Depth is judged where it is
known and the network's input shows the image: abs_rel and delta after one scale for the whole sequence, `_metric` as it
is, `_image` after one scale for each image; for the best constant that is the best one in hindsight. The path's error
is a share of its length, for what does not look that of a camera which stands still. --long N plays the first source
there and back for N images, and says whether memory grows.

example: perception benchmark reconstruction data/7scenes_redkitchen --frames 0:60 --out out/reconstruction
         perception benchmark reconstruction data/7scenes_redkitchen --rooms --methods --long 2000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.evaluation.report import Table
    from perception_nodes.judges.reconstruction_methods import Contest
    from perception_nodes.judges.reconstruction_scenes import Scene

HELD_OUT = (9001, 9002, 9003)
ROOM_FRAMES = 32
COLUMNS = {
    "depth": (
        *("abs_rel", "delta", "rmse_log", "abs_rel_metric", "delta_metric", "abs_rel_image", "delta_image", "scale"),
    ),
    "path, cloud and time": (
        *("ate_percent", "ate_metric_percent", "rpe_cm", "rpe_deg", "accuracy_m", "completeness_m"),
        *("normal_consistency", "worlds", "invalid", "p50_ms", "p95_ms"),
    ),
}
Figures = dict[str, dict[str, float]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", nargs="*", type=Path, metavar="SRC", help="bags or folders of posed RGB-D frames")
    parser.add_argument("--frames", type=_slice, default=slice(None), metavar="A:B:STEP", help="of each, by place")
    parser.add_argument("--rooms", nargs="*", type=int, default=HELD_OUT, metavar="SEED", help="default: %(default)s")
    parser.add_argument("--weights", default="compact", help="variant or folder (default: %(default)s)")
    parser.add_argument("--methods", nargs="*", metavar="METHOD", help="default: all, see the table's first column")
    parser.add_argument("--reset-every", type=int, default=24, help="images, where resets are scheduled (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="compute threads (default: %(default)s)")
    parser.add_argument("--long", type=int, metavar="N", help="also N images of the first source, there and back")
    parser.add_argument("--out", type=Path, help="folder for metrics.json and report.html")


def _slice(text: str) -> slice:
    try:
        parts = [int(part) if part else None for part in text.split(":")]
        return slice(*parts) if len(parts) > 1 else slice(parts[0])
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f"'{text}' is no A:B:STEP") from None


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write what was asked for."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.report import Report, write_metrics, write_report
    from perception_nodes.commands.showing import show
    from perception_nodes.judges.reconstruction_methods import Contest

    contest = Contest.load(arguments.weights, arguments.threads, arguments.reset_every)
    facts = {**machine(), "weights": arguments.weights, "engine": str(contest.network.engine_info)}
    metrics: Figures = {}
    tables: list[Table] = []
    for scene in _scenes(arguments):
        measured = measure(scene, contest, arguments.methods)
        metrics |= {f"{scene.name}: {method}": row for method, row in measured.items()}
        tables += _tables(f"{scene.name}, {len(scene.frames)} frames", measured)
    if arguments.rooms:
        tables += _tables(f"mean of {len(arguments.rooms)} rooms", _mean_of_rooms(metrics))
    if arguments.long:
        metrics["long run"] = _long_run(arguments, contest)
        tables.append(_table(f"{arguments.long} images there and back", metrics, ["long run"], metrics["long run"]))
    report = Report("Reconstruction", facts, tables)
    show(report)
    if arguments.out:
        print(write_metrics(arguments.out, {**metrics, "run": facts}))
        print(write_report(arguments.out, [report]))
    return 0


def _scenes(arguments: argparse.Namespace) -> Iterator[Scene]:
    """One after the other, each made when it is wanted."""
    from perception_models.simulation.room_catalogue import Catalogue
    from perception_nodes.judges.reconstruction_scenes import recorded, simulated

    for source in arguments.sources:
        yield recorded(source, arguments.frames)
    for seed in arguments.rooms:
        yield simulated(seed, ROOM_FRAMES, Catalogue.fetched())


def measure(scene: Scene, contest: Contest, methods: Sequence[str] | None = None) -> Figures:
    """Figures by method, on one scene."""
    from perception_nodes.judges.reconstruction_figures import figures
    from perception_nodes.judges.reconstruction_scenes import Truth

    truths = [Truth.of(frame, contest.network.camera) for frame in scene.frames]
    measured = {}
    for method in contest.methods if methods is None else methods:
        measured[method] = figures(contest.run(method, scene.frames), truths)
        print(
            f"{scene.name}: {method}", *(f"{name} {value:.3g}" for name, value in measured[method].items()), flush=True
        )
    return measured


def _mean_of_rooms(metrics: Figures) -> Figures:
    """By method; a figure that a room has not is not counted for it."""
    import numpy as np

    by_method: dict[str, list[dict[str, float]]] = {}
    for name, row in metrics.items():
        scene, _, method = name.partition(": ")
        if scene.startswith("room "):
            by_method.setdefault(method, []).append(row)
    names = {method: {name for row in rows for name in row} for method, rows in by_method.items()}
    return {
        method: {name: float(np.mean([row[name] for row in rows if name in row])) for name in names[method]}
        for method, rows in by_method.items()
    }


def _long_run(arguments: argparse.Namespace, contest: Contest) -> dict[str, float]:
    from perception_nodes.judges.reconstruction_endurance import endure

    if not arguments.sources:
        raise ValueError("--long needs a SRC to play there and back")
    scene = next(_scenes(arguments))
    return endure(contest.network, scene.frames, arguments.long)


def _tables(title: str, measured: Figures) -> list[Table]:
    return [_table(f"{title}: {part}", measured, list(measured), columns) for part, columns in COLUMNS.items()]


def _table(title: str, measured: Figures, rows: Iterable[str], columns: Iterable[str]) -> Table:
    """A row for each name that has any of the figures, a column for each of these."""
    from perception_models.evaluation.report import Table

    wanted = list(columns)
    cells = [
        [name, *(f"{measured[name][column]:.4g}" if column in measured[name] else "-" for column in wanted)]
        for name in rows
        if measured[name].keys() & set(wanted)
    ]
    return Table(title, ["", *wanted], cells)
