# SPDX-License-Identifier: Apache-2.0
"""Measure a task's pipeline: latency and memory, and what stands beside it on the same input in the same run.

example: perception benchmark detection --calls 100 --threads 2
         perception benchmark registration --help
"""

import argparse
from importlib import import_module

TASKS = (
    *("detection", "masks", "odometry", "reconstruction", "registration", "relocalization", "scan_pairs"),
    *("segmentation", "tracking"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments, a group of them for each task."""
    tasks = parser.add_subparsers(metavar="TASK", required=True, help=", ".join(TASKS))
    for task in TASKS:
        module = import_module(f"perception_nodes.commands.benchmark_{task}")
        chosen = tasks.add_parser(task, description=module.__doc__, formatter_class=parser.formatter_class)
        module.configure(chosen)
        chosen.set_defaults(measure=module.run)


def run(arguments: argparse.Namespace) -> int:
    """Hand over to the task's benchmark."""
    status: int = arguments.measure(arguments)
    return status
