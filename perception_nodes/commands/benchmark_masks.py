# SPDX-License-Identifier: Apache-2.0
"""Measure masks from clicks on labelled clouds seen as images: a promptable network beside GrabCut, watershed, a disk,
and for the borders Sobel edges at the threshold that suits these images best.

The first click is where the object is thickest, each further one where the answer is most wrong.

example: perception benchmark masks data/osd --variant compact
"""

from __future__ import annotations

import argparse
from pathlib import Path

COLUMNS = ("objects", "iou_1", "iou_3", "above_half_1", "border_f")
RADII = (20, 30, 40, 50, 60)  # pixels


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("clouds", type=Path, metavar="FOLDER", help="labelled organised clouds, such as mOSD's")
    parser.add_argument("--variant", default="compact", help="of the network, or none (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="compute threads (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for metrics.json and pictures")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write what was asked for."""
    from perception_models.evaluation.machine import machine
    from perception_models.evaluation.report import Report, Table, as_cell, write_metrics
    from perception_models.segmentation.predictor import MaskPredictor
    from perception_nodes.commands.showing import show
    from perception_nodes.judges import clicks
    from perception_nodes.judges.labelled_clouds import labelled_clouds

    scenes = list(labelled_clouds(arguments.clouds))
    methods: dict[str, object] = {}
    if arguments.variant != "none":
        predictor = MaskPredictor.load(arguments.variant, threads=arguments.threads)
        methods = {
            f"{arguments.variant}, colour and depth": lambda: clicks.Network(predictor, True),
            f"{arguments.variant}, colour": lambda: clicks.Network(predictor, False),
        }
    methods |= {"GrabCut": clicks.GrabCut, "watershed": clicks.Watershed}
    methods |= {f"disk of {radius} pixels": (lambda radius=radius: clicks.Disk(radius)) for radius in RADII}
    rows = clicks.measure(methods, scenes)  # type: ignore[arg-type]
    cells = [[name, *(as_cell(row[key]) if key in row else "" for key in COLUMNS)] for name, row in rows.items()]
    facts = {**machine(), "images": f"{len(scenes)} of {arguments.clouds}"}
    table = Table("mean IoU, and F-score of borders after one click", ["", *COLUMNS], cells)
    show(Report("Masks from clicks", facts, [table]))
    if arguments.out:
        print(write_metrics(arguments.out, {**rows, "run": facts}))
    return 0
