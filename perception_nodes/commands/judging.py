# SPDX-License-Identifier: Apache-2.0
"""What `evaluate` and `replay` share: how detections are judged, and what is printed at the end."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.detection import Detector
    from perception_models.evaluation.detection import DetectionMetrics, EvaluationSettings

TASKS = ("detection",)
SHOWN = ("bev_50", "bev_70", "3d_70", "bev_25", "3d_25")


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that both commands take."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="an MCAP file or the folder of a bag")
    parser.add_argument("--tasks", default="detection", help="comma-separated (default and only one so far: detection)")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and report.html")
    parser.add_argument("--topic", help="topic of the clouds (default: /points, or the only cloud in the bag)")
    parser.add_argument("--max-range", type=float, default=50.0, help="judge objects nearer, m (default: %(default)s)")
    parser.add_argument("--min-points", type=int, default=5, help="judge objects with as many (default: %(default)s)")
    add_model(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that choose a model and how it runs."""
    parser.add_argument("--variant", default="compact", help="weights: variant or folder (default: %(default)s)")
    parser.add_argument("--backend", default="auto", help="auto, onnxruntime or tensorrt (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="compute threads (default: the engine's own choice)")
    parser.add_argument("--score-threshold", type=float, default=0.1, help="lowest score kept (default: %(default)s)")


def check_tasks(arguments: argparse.Namespace) -> None:
    """Raises ValueError for a task that there is not."""
    unknown = set(arguments.tasks.split(",")) - set(TASKS)
    if unknown:
        raise ValueError(f"no task is called {', '.join(sorted(unknown))}; there is {', '.join(TASKS)}")


def load_detector(arguments: argparse.Namespace) -> "Detector":
    """The detector that the arguments ask for."""
    from perception_models.detection import Detector

    return Detector.load(
        variant=arguments.variant,
        backend=arguments.backend,
        threads=arguments.threads,
        score_threshold=arguments.score_threshold,
    )


def settings_of(arguments: argparse.Namespace) -> "EvaluationSettings":
    """How the arguments want detections judged."""
    from perception_models.evaluation.detection import EvaluationSettings

    return EvaluationSettings(min_points=arguments.min_points, max_range=arguments.max_range)


def print_summary(metrics: "DetectionMetrics", out: Path) -> None:
    """The main figures, and where the rest is."""
    for name, value in metrics.values.items():
        if name.endswith(SHOWN) or name.endswith("false_per_frame"):
            interval = f" +- {metrics.intervals[name]:.1f}" if name in metrics.intervals else ""
            print(f"  {name:32} {value:6.2f}{interval}")
    print(f"{out / 'metrics.json'}\n{out / 'report.html'}")
