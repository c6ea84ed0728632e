# SPDX-License-Identifier: Apache-2.0
"""Measure odometry side by side: latency a scan, and how far the methods are from each other and from the recording.

SRC is a bag, or a folder in KITTI's raw layout (..._sync). Every scan is given to all methods in turn, so that all see
the machine in the same state. KISS-ICP wants `pip install kiss-icp`.

example: perception benchmark odometry data/2011_09_26/2011_09_26_drive_0005_sync --out out/odometry
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perception_nodes.judges.odometry_methods import METHODS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from perception_models.evaluation.report import Table
    from perception_nodes.scans import Sweep

FRAMES = 10  # over which motion is compared
WARM_UP = 3  # scans that are not timed
RECORDED = "recording"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", type=Path, metavar="SRC", help="bag, or folder in KITTI's raw layout")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="default: all")
    parser.add_argument("--scans", type=int, help="so many, from the first on (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="of ours and small_gicp (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json and report.html")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write what was asked for."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.report import Report, write_metrics, write_report
    from perception_nodes.commands.showing import show

    runs, recorded = follow(arguments)
    latency = {name: run.latency() for name, run in runs.items()}
    far = differences({**{name: run.trajectory for name, run in runs.items()}, RECORDED: recorded})
    facts = {**machine(), "scans": f"{len(recorded)} of {arguments.source}", "threads": f"{arguments.threads}"}
    tables = [table("ms a scan", latency), table(f"motion over {FRAMES} scans, and the end", far)]
    report = Report("Odometry side by side", facts, tables)
    show(report)
    if arguments.out:
        print(write_metrics(arguments.out, {**latency, **far, "run": facts}))
        print(write_report(arguments.out, [report]))
    return 0


@dataclass
class Run:
    """What one method answered, and the milliseconds of clock and processor that each scan took."""

    poses: list[NDArray[np.float64]] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def trajectory(self) -> NDArray[np.float64]:
        """Poses (F, 4, 4)."""
        import numpy as np

        return np.array(self.poses)

    def latency(self) -> dict[str, float]:
        """p50 and p95 of clock and processor; all threads' work counts for the processor, waiting awake as well."""
        from perception_models.evaluation.latency import percentiles

        columns = {"": percentiles(self.clock[WARM_UP:]), "processor ": percentiles(self.processor[WARM_UP:])}
        return {f"{kind}{p}": values[p] for kind, values in columns.items() for p in ("p50", "p95")}


def follow(arguments: argparse.Namespace) -> tuple[dict[str, Run], NDArray[np.float64]]:
    """Every method's answers, and the poses of the recording (F, 4, 4), NaN where it has none."""
    import numpy as np

    methods = {name: METHODS[name](arguments.threads) for name in arguments.methods}
    runs, recorded = {name: Run() for name in methods}, []
    with sweeps(arguments.source, arguments.scans) as scans:
        for sweep in scans:
            recorded.append(np.full((4, 4), np.nan) if sweep.pose is None else sweep.pose)
            points = np.ascontiguousarray(sweep.points)
            for name, method in methods.items():
                clock, processor = time.perf_counter(), time.process_time()
                runs[name].poses.append(method(points, sweep.times, sweep.stamp * 1e-9))
                runs[name].clock.append(1e3 * (time.perf_counter() - clock))
                runs[name].processor.append(1e3 * (time.process_time() - processor))
    return runs, np.array(recorded)


@contextmanager
def sweeps(source: Path, most: int | None) -> Iterator[Iterator[Sweep]]:
    """The clouds of a bag or a folder, in order."""
    from itertools import islice

    from perception_nodes.kitti import KittiDrive
    from perception_nodes.progress import progress
    from perception_nodes.scans import ScanBag

    if (source / "velodyne_points").is_dir():
        drive = KittiDrive(source)
        yield progress(islice(drive.sweeps(), most), most or len(drive), "following")
        return
    with ScanBag(source) as bag:
        yield progress(islice(bag.sweeps(), most), most or len(bag), "following")


def differences(trajectories: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Of every two trajectories: mean and largest difference of their motion in cm and deg, and that of their ends in
    metres and in percent of the way."""
    from itertools import combinations

    import numpy as np

    from perception_models.evaluation.odometry import end_point_error, given, path_length, relative_errors

    found = {}
    for (name, one), (other, two) in combinations(trajectories.items(), 2):
        if (given(one) & given(two)).sum() <= FRAMES:
            continue
        errors = relative_errors(one, two, FRAMES) * [100, np.degrees(1)]
        (mean_cm, mean_deg), (most_cm, most_deg) = errors.mean(axis=0).tolist(), errors.max(axis=0).tolist()
        end, way = end_point_error(one, two), path_length(two)
        columns = {"mean cm": mean_cm, "mean deg": mean_deg, "max cm": most_cm, "max deg": most_deg}
        found[f"{name} to {other}"] = {**columns, "end m": end, "end %": 100 * end / way, "way m": way}
    return found


def table(title: str, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """A row for each name, a column for each figure."""
    from perception_models.evaluation.report import Table

    columns = list(next(iter(figures.values()), {}))
    rows = [[name, *(f"{row[column]:.3g}" for column in columns)] for name, row in figures.items()]
    return Table(title, ["", *columns], rows)
