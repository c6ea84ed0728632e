# SPDX-License-Identifier: Apache-2.0
"""Write a trained checkpoint as model.onnx and model.yaml, checked against torch.

example: perception export detection out/training/checkpoint.pt out/weights/mine
         perception evaluate out/drive.mcap --variant out/weights/mine --out out/evaluation
"""

import argparse
from importlib import import_module
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    tasks = ["detection", "reconstruction", "registration", "segmentation", "tracking"]
    parser.add_argument("task", choices=tasks, help="what the checkpoint was trained for")
    parser.add_argument("checkpoint", type=Path, help="checkpoint of `perception train`")
    parser.add_argument("out", type=Path, help="folder for model.onnx and model.yaml")


def run(arguments: argparse.Namespace) -> int:
    """Export the checkpoint."""
    task = import_module(f"perception_models.{arguments.task}.export")
    print(task.export(task.load_checkpoint(arguments.checkpoint), arguments.out, variant=arguments.out.name))
    return 0
