# SPDX-License-Identifier: Apache-2.0
"""One module a task: its pipeline, or the recorded answers of its node, judged against the truth that a bag carries.

Each has `in_process(bag, options, watch)` and `recorded(bag, options, watch)`, which return a Judgement, and
`node_parameters(options)`, the ROS parameters with which `perception replay` starts the task's node.
"""

from importlib import import_module
from typing import Any

TASKS = ("detection", "reconstruction", "registration", "relocalization", "segmentation", "tracking")


def judge_of(task: str) -> Any:
    """The module that judges a task."""
    return import_module(f"perception_nodes.judges.{task}")
