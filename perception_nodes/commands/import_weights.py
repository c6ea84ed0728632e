# SPDX-License-Identifier: Apache-2.0
"""Turn a published checkpoint that you downloaded into weights that run here. The model is recognised by its tensors.

example: perception import-weights detection dsvt_pillar_waymo.pth --out out/weights
         perception evaluate out/drive.mcap --variant out/weights/dsvt_pillar_waymo --out out/evaluation
"""

import argparse
import importlib
from pathlib import Path

TASKS = ("detection", "reconstruction", "registration", "relocalization", "segmentation", "tracking")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("task", choices=TASKS, help="what the checkpoint is for")
    parser.add_argument("file", type=Path, metavar="FILE", help="the downloaded checkpoint")
    parser.add_argument("--out", type=Path, default=Path("weights"), help="parent of the new folder (default: weights)")


def run(arguments: argparse.Namespace) -> int:
    """Recognise, load and export the checkpoint."""
    checkpoints = importlib.import_module(f"perception_models.{arguments.task}.checkpoints")
    print(checkpoints.import_weights(arguments.file, arguments.out))
    return 0
