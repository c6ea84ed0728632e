# SPDX-License-Identifier: Apache-2.0
"""Measure the detector's latency on scans of 120,000 points: percentiles of each stage, memory, versions.

Scans come from --bag, or from a simulated drive; all are brought to the same number of points. The warm-up calls are
not counted.

example: perception benchmark detection --calls 100 --threads 2
"""

import argparse
import os
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from perception_nodes.commands.judging import add_model, add_threshold

if TYPE_CHECKING:
    from perception_models.geometry.boxes import Floats

DISTINCT = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--bag", type=Path, help="scans of this bag (default: a simulated HDL-64E drive)")
    parser.add_argument("--points", type=int, default=120_000, help="points a scan (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=100, help="calls measured (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=5, help="calls before, not counted (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json")
    add_model(parser)
    add_threshold(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write metrics.json."""
    from perception_models.evaluation.latency import LatencyLog
    from perception_models.evaluation.machine import machine, peak_memory
    from perception_models.evaluation.report import write_metrics
    from perception_nodes.judges.detection import load_detector
    from perception_nodes.progress import progress

    detector = load_detector(arguments)
    clouds = list(_clouds(arguments.bag, arguments.points))
    latency, calls = LatencyLog(), arguments.warm_up + arguments.calls
    for call, points in enumerate(progress(islice(cycle(clouds), calls), calls, "measuring")):
        detector.detect(points)
        if call >= arguments.warm_up:
            latency.add(detector.timing)
    facts = {
        **machine(),
        "engine": str(detector.engine_info),
        "scans": f"{arguments.calls} calls on {len(clouds)} scans of {arguments.points} points from "
        f"{arguments.bag or 'a simulated drive'}, {arguments.warm_up} warm-up calls",
    }
    figures = {**latency.summary(), "process_peak_memory_mb": peak_memory(os.getpid())}
    _show(figures, facts)
    if arguments.out:
        print(write_metrics(arguments.out, {"detection": figures, "run": facts}))
    return 0


def _clouds(bag: Path | None, count: int) -> "Iterator[Floats]":
    """A few scans, each with exactly `count` points: a random choice, or all and some of them again."""
    import numpy as np

    from perception_nodes.commands.simulate import scans
    from perception_nodes.scans import ScanBag

    rng = np.random.default_rng(0)
    if bag is None:
        source = [scan.points for scan in scans(0, DISTINCT / 10, "hdl64")]
    else:
        with ScanBag(bag) as recorded:
            source = [scan.points for scan in islice(recorded, DISTINCT)]
    for points in source:
        extra = rng.integers(len(points), size=max(count - len(points), 0))
        chosen = np.append(rng.permutation(len(points))[:count], extra)
        yield points[np.sort(chosen)]


def _show(figures: dict[str, float], facts: dict[str, str]) -> None:
    for name, value in facts.items():
        print(f"{name}: {value}")
    print(f"{'ms':12}" + "".join(f"{column:>9}" for column in ("p50", "p95", "p99", "max")))
    for stage in ("preprocess", "inference", "postprocess", "total"):
        row = (figures[f"latency_{stage}_{column}_ms"] for column in ("p50", "p95", "p99", "max"))
        print(f"{stage:12}" + "".join(f"{value:9.1f}" for value in row))
    print(f"peak memory of this process: {figures['process_peak_memory_mb']:.0f} MB")
