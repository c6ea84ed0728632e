# SPDX-License-Identifier: Apache-2.0
"""What `evaluate`, `replay` and `benchmark` share: their arguments, and what is printed at the end."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perception_nodes.judges import TASKS

if TYPE_CHECKING:
    from perception_nodes.judges.judgement import Judgement


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `evaluate` and `replay` take."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="an MCAP file or the folder of a bag")
    parser.add_argument(
        "--tasks", default="detection", help=f"comma-separated, of {', '.join(TASKS)} (default: detection)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and report.html")
    parser.add_argument("--topic", help="topic of the clouds or images (default: the usual one, or the only one)")
    parser.add_argument("--map", type=Path, help="relocalization: the map of the scene, from `perception map build`")
    parser.add_argument(
        "--max-range", type=float, default=50.0, help="detection: judge objects nearer, m (default: %(default)s)"
    )
    parser.add_argument(
        "--min-points", type=int, default=5, help="detection: judge objects with as many (default: %(default)s)"
    )
    add_model(parser)
    add_threshold(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that choose a model and how it runs."""
    parser.add_argument("--variant", default="compact", help="weights: variant or folder (default: %(default)s)")
    parser.add_argument("--backend", default="auto", help="auto, onnxruntime or tensorrt (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="compute threads (default: the engine's own choice)")


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that only detection takes."""
    parser.add_argument(
        "--score-threshold", type=float, default=0.1, help="detection: lowest score kept (default: %(default)s)"
    )


def tasks_of(arguments: argparse.Namespace) -> list[str]:
    """The tasks asked for, each once. Raises ValueError for one that there is not."""
    tasks = list(dict.fromkeys(arguments.tasks.split(",")))
    unknown = sorted(set(tasks) - set(TASKS))
    if unknown:
        raise ValueError(f"no task is called {', '.join(unknown)}; there is {', '.join(TASKS)}")
    return tasks


def finish(out: Path, judgements: "Sequence[Judgement]") -> None:
    """Write the judgements; print the main figures, and where the rest is."""
    from perception_nodes.judges.judgement import write

    write(out, judgements)
    for line in (line for judgement in judgements for line in judgement.shown):
        print(f"  {line}")
    print(f"{out / 'metrics.json'}\n{out / 'report.html'}")
