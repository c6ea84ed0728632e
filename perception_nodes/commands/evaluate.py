# SPDX-License-Identifier: Apache-2.0
"""Run the pipelines in process over a bag, every message once and in order, and judge them against the bag's truth.

With --recorded, judge the detections that the bag holds (from `perception replay`) instead.

example: perception evaluate out/drive_0005.mcap --max-range 40 --out out/evaluation
"""

import argparse
from typing import TYPE_CHECKING

from perception_nodes.commands.judging import add_judging, check_tasks, load_detector, print_summary, settings_of

if TYPE_CHECKING:
    from perception_models.evaluation.latency import LatencyLog
    from perception_nodes.evaluate import Find


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_judging(parser)
    parser.add_argument("--recorded", action="store_true", help="judge the bag's /detections; no model runs")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write the report, print the main figures."""
    from perception_models.evaluation.latency import LatencyLog
    from perception_nodes.evaluate import judge, recorded, write_results
    from perception_nodes.progress import progress
    from perception_nodes.scans import ScanBag

    check_tasks(arguments)
    latency = LatencyLog()
    with ScanBag(arguments.bag, arguments.topic) as bag:
        if arguments.recorded:
            find, facts = recorded(bag), {"detections": "as recorded in the bag"}
        else:
            find, facts = _in_process(arguments, latency)
        result = judge(bag, find, progress(bag, len(bag), "evaluating"))
        result.figures |= latency.summary()
        title = f"Detection on {arguments.bag.name}"
        metrics = write_results(arguments.out, title, bag, result, settings_of(arguments), facts)
    print_summary(metrics, arguments.out)
    return 0


def _in_process(arguments: argparse.Namespace, latency: "LatencyLog") -> "tuple[Find, dict[str, str]]":
    from perception_nodes.evaluate import run_detector

    detector = load_detector(arguments)
    return run_detector(detector, latency), {"model": arguments.variant, "engine": str(detector.engine_info)}
