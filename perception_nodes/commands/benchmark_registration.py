# SPDX-License-Identifier: Apache-2.0
"""Measure registration from nothing on indoor fragments: methods side by side on the same pairs, in the same run.

SRC is a sequence in the layout of 7-Scenes; every 50 frames are fused to a fragment, and all pairs that overlap by 10 %
are aligned: "low" up to 30 %, "high" above. A second holds both clouds' preparation. Baselines want open3d
(`pip install open3d`). Odometry and LiDAR scans: `perception benchmark odometry`.

example: perception benchmark registration data/7scenes_redkitchen --networks out/registration/gw_1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from perception_models.evaluation.registration import Outcome
    from perception_models.evaluation.report import Table
    from perception_nodes.fragment_pairs import Floats, FragmentPair
    from perception_nodes.judges.registration_methods import Answer, Method

T = TypeVar("T")
COLUMNS = ("high_recall", "low_recall", "high_inlier_ratio", "low_inlier_ratio", "valid_but_wrong", "seconds")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", type=Path, metavar="SRC", help="folder in the layout of 7-Scenes")
    parser.add_argument("--methods", nargs="+", help="names as in the table (default: all)")
    parser.add_argument("--networks", nargs="+", type=Path, default=[], help="folders of weights to measure as well")
    parser.add_argument("--low-only", action="store_true", help="only pairs that overlap by less than 30 %%")
    parser.add_argument("--threads", type=int, help="of ours (default: half of the cores, at least 2)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json and report.html")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.registration import LOW
    from perception_models.evaluation.report import Report, write_metrics, write_report
    from perception_nodes.commands.showing import show
    from perception_nodes.fragment_pairs import overlapping, read_fragments
    from perception_nodes.judges.registration_methods import methods

    known = methods(arguments.threads, arguments.networks)
    unknown = set(arguments.methods or ()) - set(known)
    if unknown:
        raise ValueError(f"no method {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    clouds, poses = read_fragments(arguments.source)
    pairs = [pair for pair in overlapping(clouds, poses) if not arguments.low_only or pair.overlap < LOW[1]]
    rows = {name: measure(known[name](), clouds, pairs, name) for name in arguments.methods or known}
    facts = {**machine(), "fragments": f"{len(clouds)} of {arguments.source}", "pairs": f"{len(pairs)}"}
    report = Report("Registration of indoor fragments", facts, [table(rows)])
    show(report)
    if arguments.out:
        print(write_metrics(arguments.out, {**rows, "run": facts}))
        print(write_report(arguments.out, [report]))
    return 0


def measure(
    method: Method, clouds: Sequence[Floats], pairs: Sequence[FragmentPair], name: str = "aligning"
) -> dict[str, float]:
    """Figures of one method on all pairs, after one pair to warm up."""
    import numpy as np

    from perception_models.evaluation.registration import summary
    from perception_models.registration.preprocess import thin_out
    from perception_models.registration.settings import INDOOR
    from perception_nodes.progress import progress

    thin = [thin_out(cloud, INDOOR.voxel) for cloud in clouds]
    method.align(method.prepare(clouds[0]), method.prepare(clouds[1]))
    prepared, preparing = zip(*(timed(method.prepare, cloud) for cloud in clouds), strict=True)
    outcomes, seconds = [], []
    for pair in progress(pairs, len(pairs), name):
        source, target = prepared[pair.source], prepared[pair.target]
        answer, took = timed(method.align, source, target)
        seconds.append(took + preparing[pair.source] + preparing[pair.target])
        outcomes.append(judge(pair, answer, method.matches(source, target), thin[pair.source], thin[pair.target]))
    return {**summary(outcomes), "seconds": float(np.mean(seconds))}


def timed(function: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """A result, and the seconds that it took."""
    began = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - began


def judge(
    pair: FragmentPair, answer: Answer, matched: tuple[Floats, Floats], source: Floats, target: Floats
) -> Outcome:
    """One answer against the truth, on thinned clouds (N, 3), (M, 3)."""
    from perception_models.evaluation.registration import Outcome, alignment_error, inlier_ratio
    from perception_models.registration.settings import INDOOR
    from perception_nodes.fragment_pairs import REACH

    error = alignment_error(answer.transform, pair.transform, source, target, REACH * INDOOR.voxel)
    right = inlier_ratio(*matched, pair.transform, INDOOR.tolerance * INDOOR.voxel)
    return Outcome(pair.overlap, error, answer.valid, right)


def table(rows: dict[str, dict[str, float]]) -> Table:
    """One line a method: recalls and inlier ratios in percent."""
    from perception_models.evaluation.report import Table, as_cell

    counts = next(iter(rows.values()))
    title = f"{counts['high_pairs']:.0f} pairs of high, {counts['low_pairs']:.0f} of low overlap"
    shares = {column: 1 if column in ("valid_but_wrong", "seconds") else 100 for column in COLUMNS}
    cells = [
        [name, *(as_cell(_shown(row, column, shares[column])) for column in COLUMNS)] for name, row in rows.items()
    ]
    return Table(title, ["", *(column.replace("_", " ") for column in COLUMNS)], cells)


def _shown(row: dict[str, float], column: str, scale: int) -> float | None:
    value = row.get(column, float("nan"))
    return scale * value if value == value else None
