# SPDX-License-Identifier: Apache-2.0
"""A trained checkpoint as a folder of weights: model.onnx, model.yaml and recorded inputs for the precision gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from perception_models.detection.network import INPUTS, OUTPUTS, CompactDetector, DeployedDetector
from perception_models.detection.preprocess import prepare
from perception_models.detection.settings import DetectionSettings
from perception_models.onnx_export import export_checked
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples
from perception_models.simulation.drive import simulate_drive

BOUNDS = {"heatmap": 0.05, "box": 0.1, "iou": 0.05}
SYMBOLIC = {
    "occupancy": {0: "pillars"},
    "statistics": {0: "pillars"},
    "points": {0: "tokens"},
    "point_bias": {0: "tokens"},
    "orders": {1: "tokens"},
    "inverse": {1: "tokens"},
    "positions": {1: "tokens"},
    "token_bias": {0: "tokens"},
}


def load_checkpoint(path: Path) -> CompactDetector:
    """The averaged network of a training checkpoint, in evaluation mode."""
    state = torch.load(path, weights_only=True)
    network = CompactDetector(DetectionSettings.from_dict(state["settings"]), attention=state["recipe"]["attention"])
    network.load_state_dict(state["average"])
    return network.eval()


def export(network: CompactDetector, folder: Path, variant: str = "compact", **figures: Any) -> Path:
    """Write the weights folder, with `figures` in its model.yaml -> path of the ONNX file.

    Raises ValueError when ONNX Runtime and torch differ by more than `onnx_export.PARITY` on a simulated scan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    scan = next(simulate_drive(seed=0, seconds=0.1)).points
    example = prepare(scan, network.settings).tensors
    difference = export_checked(DeployedDetector(network), INPUTS, OUTPUTS, example, SYMBOLIC, path)
    facts = describe_model(
        folder,
        "detection",
        variant,
        classes=list(network.settings.classes),
        capacity={"pillars": network.settings.max_pillars, "tokens": network.settings.max_tokens},
        precision_bound=BOUNDS,
        settings=network.settings.to_dict(),
        figures={"torch_to_onnx_difference": difference, **figures},
    )
    recorded = prepare(scan, network.settings, pad_to_capacity=True).tensors
    save_samples(folder, [{name: recorded[name] for name in facts.inputs}])
    return path
