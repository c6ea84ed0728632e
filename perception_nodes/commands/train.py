# SPDX-License-Identifier: Apache-2.0
"""Train a model by its recipe: on simulated data, seeded, resumable. What follows TASK goes to the recipe.

example: perception train detection out/training --minutes 90
         perception train registration --help
"""

import argparse
from importlib import import_module


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "task",
        choices=["detection", "reconstruction", "registration", "segmentation", "tracking"],
        help="what to train",
    )
    parser.add_argument("recipe", nargs=argparse.REMAINDER, help="arguments of the recipe")


def run(arguments: argparse.Namespace) -> int:
    """Hand over to the task's recipe."""
    import_module(f"perception_models.{arguments.task}.train").main(arguments.recipe)
    return 0
