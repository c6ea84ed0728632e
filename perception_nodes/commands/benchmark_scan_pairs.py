# SPDX-License-Identifier: Apache-2.0
"""Measure registration of LiDAR scans from nothing, with any yaw between them, and of clouds that do not overlap.

DATA is laid out as PERCEPTION_DATA: pairs of KITTI's drive 0005 up to 10 s and 10 m apart, lidar_pairs, and pairs of
different data sets, of which none may be called valid. Success is less than 0.6 m and 1.5 deg from where small_gicp
comes from the recorded pose; milliseconds hold both scans' preparation. The baseline wants `pip install open3d`.

example: perception benchmark scan_pairs ../shared/data --pairs 200 --baseline 20 --out out/scan_pairs
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.evaluation.scan_pairs import ScanOutcome
    from perception_nodes.judges.registration_methods import Method
    from perception_nodes.scan_pairs import ScanPair


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of recorded data")
    parser.add_argument("--pairs", type=int, default=100, help="of drive 0005 (default: %(default)s)")
    parser.add_argument("--baseline", type=int, default=0, help="of them also by FPFH + RANSAC (default: none)")
    parser.add_argument("--strangers", type=int, default=100, help="pairs without overlap (default: %(default)s)")
    parser.add_argument("--variant", default="classical", help="of ours (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of ours (default: half of the cores, at least 2)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json and report.html")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write what was asked for."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.report import Report, write_metrics, write_report
    from perception_nodes.commands.benchmark_odometry import table
    from perception_nodes.commands.showing import show

    if min(arguments.pairs, arguments.strangers, arguments.baseline) < 0:
        raise ValueError("--pairs, --strangers and --baseline are counts: 0 leaves that part out")
    rows = measure_pairs(arguments)
    believed = believed_strangers(arguments)
    strangers = {"valid": float(len(believed)), "pairs": float(arguments.strangers)}
    tables = [table("pairs", rows), table("pairs without overlap", {"ours": strangers})]
    facts = {**machine(), "variant": arguments.variant}
    report = Report("Registration of scans from nothing", facts, tables, notes=[f"Believed: {one}" for one in believed])
    show(report)
    print("\n".join(report.notes))
    if arguments.out:
        print(write_metrics(arguments.out, {**rows, "strangers": strangers, "run": facts}))
        print(write_report(arguments.out, [report]))
    return 0


def measure_pairs(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Figures of the drive's pairs by distance, of the published pairs, and of the baseline on some of the drive's."""
    from perception_models.evaluation.scan_pairs import by_distance
    from perception_models.registration import Registrar
    from perception_models.registration.settings import LIDAR
    from perception_nodes.judges.registration_methods import Open3D, Ours
    from perception_nodes.scan_pairs import drive_pairs, published_pairs

    ours = Ours(Registrar.load(arguments.variant, threads=arguments.threads, scale="lidar"), LIDAR)
    drive = list(drive_pairs(arguments.data, arguments.pairs))
    found = align(ours, drive, "aligning")
    rows = {f"drive 0005, {band}": figures for band, figures in by_distance(found).items()}
    rows["lidar_pairs"] = by_distance(align(ours, list(published_pairs(arguments.data)), "aligning"))["all"]
    if arguments.baseline:
        step = max(len(drive) // arguments.baseline, 1)
        rows["some of them"] = by_distance(found[::step])["all"]
        rows["FPFH + RANSAC on these"] = by_distance(align(Open3D(False, LIDAR.voxel), drive[::step], "RANSAC"))["all"]
    return rows


def align(method: Method, pairs: list[ScanPair], name: str) -> list[ScanOutcome]:
    """Each pair from nothing, after one to warm up."""
    from perception_models.evaluation.scan_pairs import ScanOutcome, pose_errors
    from perception_nodes.progress import progress

    outcomes = []
    for pair in progress([*pairs[:1], *pairs], len(pairs) + 1, name):
        began = time.perf_counter()
        answer = method.align(method.prepare(pair.source), method.prepare(pair.target))
        elapsed = 1e3 * (time.perf_counter() - began)
        errors = pose_errors(answer.transform, pair.truth)
        outcomes.append(ScanOutcome(pair.distance, *errors, answer.valid, elapsed))
    return outcomes[1:]


def believed_strangers(arguments: argparse.Namespace) -> list[str]:
    """The pairs without overlap that are called valid."""
    from perception_models.registration import Registrar
    from perception_nodes.progress import progress
    from perception_nodes.scan_pairs import strangers

    registrars = {
        scale: Registrar.load(arguments.variant, threads=arguments.threads, scale=scale)
        for scale in ("indoor", "lidar")
    }
    pairs = strangers(arguments.data, arguments.strangers)
    return [
        name
        for name, source, target, scale in progress(pairs, arguments.strangers, "strangers")
        if registrars[scale].align(source, target).valid
    ]
