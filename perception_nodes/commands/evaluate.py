# SPDX-License-Identifier: Apache-2.0
"""Run the pipelines in process over a bag, every message once and in order, and judge them against the bag's truth.

With --recorded, judge the answers that the bag holds (from `perception replay`) instead.

example: perception evaluate out/drive_0005.mcap --max-range 40 --out out/evaluation
         perception evaluate out/drive_0005.mcap --tasks detection,registration --out out/evaluation
"""

import argparse

from perception_nodes.commands.judging import add_judging, finish, tasks_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_judging(parser)
    parser.add_argument("--recorded", action="store_true", help="judge the answers in the bag; no model runs")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write the report, print the main figures."""
    from perception_nodes.judges import judge_of
    from perception_nodes.progress import progress

    judges = [judge_of(task) for task in tasks_of(arguments)]
    judgements = [
        (judge.recorded if arguments.recorded else judge.in_process)(arguments.bag, arguments, progress)
        for judge in judges
    ]
    finish(arguments.out, judgements)
    return 0
