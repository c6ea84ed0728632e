# SPDX-License-Identifier: Apache-2.0
"""Measure how well objects are followed: the network beside trackers without learning, on the same scans in one run.

Every labelled object of the bags and simulated drives is given once, by its true box, and followed to its end. With
--occlusions each is hidden for one second, as often as it is seen long enough. With --latency the network's time on
scans of 120,000 points is measured, for one target and for eight.

example: perception benchmark tracking --bag out/drive_0005.mcap --simulate 101 102 --occlusions --latency
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from perception_nodes.commands.judging import add_model

if TYPE_CHECKING:
    from perception_models.evaluation.report import Report, Table
    from perception_models.evaluation.tracking import TrackResult
    from perception_nodes.judges.tracking_methods import Recording

Metrics = dict[str, dict[str, float | str]]

METHODS = (
    "network",
    "network + detector",
    "detector + association",
    "clusters + Kalman filter",
    "constant velocity",
    "stands still",
)
EGO = ("odometry", "bag", "none")
TARGETS, LATENCY_SEED = (1, 8), 101  # whose latency is measured, on which simulated drive
HIDDEN = {  # figure of `run_trials`: head of its column
    "trials": "trials",
    "right": "taken up again",
    "wrong": "wrong object",
    "none": "neither",
    "wrong_ever": "wrong in between",
    "told": "said lost",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--bag", type=Path, nargs="*", default=[], help="bags with labelled objects")
    parser.add_argument("--simulate", type=int, nargs="*", default=[], metavar="SEED", help="drives to simulate")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a simulated drive (default: %(default)s)")
    parser.add_argument("--sensor", default="hdl64", help="of a simulated drive (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="default: all")
    parser.add_argument(
        "--beside", nargs="*", default=[], metavar="VARIANT", help="further weights of the network, a row each"
    )
    parser.add_argument(
        "--ego", default="odometry", choices=EGO, help="where the sensor's motion comes from (default: %(default)s)"
    )
    parser.add_argument("--occlusions", action="store_true", help="hide each object for a second as well")
    parser.add_argument("--latency", action="store_true", help="measure the network's time as well")
    parser.add_argument("--calls", type=int, default=200, help="calls that --latency measures (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json and report.html")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write metrics.json and report.html."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.report import Report, write_metrics, write_report
    from perception_models.evaluation.tracking_report import figures_of

    if not (arguments.bag or arguments.simulate or arguments.latency):
        raise ValueError("nothing to measure; give --bag, --simulate or --latency")
    metrics: Metrics = {}
    reports = []
    for recording in _recordings(arguments):
        results = {name: _follow(name, recording, arguments) for name in _rows(arguments)}
        metrics |= {f"{recording.name}: {name}": dict(figures_of(found)) for name, found in results.items()}
        tables = _tables(results)
        if arguments.occlusions:
            tables.append(_occlusions(recording, arguments, metrics))
        reports.append(Report(recording.name, {"motion of the sensor": arguments.ego}, tables))
        _show(reports[-1])
    if arguments.latency:
        reports.append(_latency(arguments, metrics))
        _show(reports[-1])
    if arguments.out:
        facts: dict[str, float | str] = {**machine(), "ego": arguments.ego, "model": arguments.variant}
        print(f"{write_metrics(arguments.out, {**metrics, 'run': facts})}\n{write_report(arguments.out, reports)}")
    return 0


def _rows(arguments: argparse.Namespace) -> list[str]:
    return [*arguments.methods, *arguments.beside]


def _recordings(arguments: argparse.Namespace) -> Iterator[Recording]:
    from perception_nodes.commands.simulate import scans
    from perception_nodes.judges.tracking_methods import read_recording, simulated

    for path in arguments.bag:
        yield read_recording(path, arguments.ego)
    for seed in arguments.simulate:
        yield simulated(seed, scans(seed, arguments.seconds, arguments.sensor), arguments.ego)


def _follow(name: str, recording: Recording, arguments: argparse.Namespace) -> list[TrackResult]:
    from perception_models.evaluation.one_pass import follow, judge
    from perception_nodes.judges.tracking import Watched
    from perception_nodes.judges.tracking_methods import tracker_of
    from perception_nodes.progress import progress

    tracker, task, scans = tracker_of(name, arguments, recording), recording.task, recording.scans
    return judge(scans, task.targets, follow(tracker, Watched(scans, progress, name), task.targets), task.counts)


def _tables(results: Mapping[str, list[TrackResult]]) -> list[Table]:
    """All figures of each method; its Success / Precision by category and by points."""
    from perception_models.evaluation import tracking_report as parts
    from perception_models.evaluation.tracking import by_category, by_points, summarize

    groups = {
        name: {f"{category} ({len(chosen)})": summarize(chosen) for category, chosen in by_category(found).items()}
        for name, found in results.items()
    }
    bands = {
        name: {f"{band} points ({row['scans']:g} scans)": row for band, row in by_points(found).items()}
        for name, found in results.items()
    }
    whole = parts.table_of({name: summarize(found) for name, found in results.items()}, "All objects")
    return [whole, _pairs("Success / Precision by category", groups), _pairs("by points in the true box", bands)]


def _pairs(title: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    from perception_models.evaluation.report import Table

    header = ["", *next(iter(rows.values()))]
    cells = [
        [name, *(f"{g['success']:.1f} / {g['precision']:.1f}" for g in row.values())] for name, row in rows.items()
    ]
    return Table(title, header, cells)


def _occlusions(recording: Recording, arguments: argparse.Namespace, metrics: Metrics) -> Table:
    """Each object hidden for a second, by every method; its figures join the metrics."""
    from perception_models.evaluation.occlusion import make_trials, run_trials
    from perception_models.evaluation.report import Table, as_cell
    from perception_nodes.judges.tracking_methods import tracker_of
    from perception_nodes.progress import progress

    task, rows = recording.task, []
    trials = make_trials(recording.scans, task.targets, task.counts)
    for name in _rows(arguments):
        tracker = tracker_of(name, arguments, recording)
        found = run_trials(tracker, progress(trials, len(trials), f"hiding, {name}"))
        metrics[f"{recording.name}: {name}"] |= {f"hidden_{figure}": value for figure, value in found.items()}
        rows.append([name, *(as_cell(found.get(figure)) for figure in HIDDEN)])
    return Table("Hidden for one second, then shown again; shares in %", ["", *HIDDEN.values()], rows)


def _latency(arguments: argparse.Namespace, metrics: Metrics) -> Report:
    """The network's milliseconds for one target and for several, on a simulated drive."""
    from perception_models.evaluation.report import Report, latency_table
    from perception_nodes.commands.simulate import scans
    from perception_nodes.judges.tracking import load_tracker
    from perception_nodes.judges.tracking_latency import time_calls
    from perception_nodes.judges.tracking_methods import simulated

    drive, tables = simulated(LATENCY_SEED, scans(LATENCY_SEED, 3.0, arguments.sensor), "bag"), []
    for count in TARGETS:
        figures = time_calls(load_tracker(arguments), drive.scans, count, arguments.calls)
        metrics[f"latency, targets: {count}"] = dict(figures)
        tables.append(replace(latency_table(figures), title=f"ms, targets: {count}"))
    return Report("Latency of the network", {"scans": f"120,000 points, {arguments.calls} calls of track"}, tables)


def _show(report: Report) -> None:
    print(f"\n{report.title}: " + ", ".join(f"{name} {value}" for name, value in report.facts.items()))
    for table in report.tables:
        rows = [[table.title, *table.header[1:]], *table.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for first, *others in rows:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            print("  ", first.ljust(widths[0]), *cells, sep="  ")
