# SPDX-License-Identifier: Apache-2.0
"""From a trained checkpoint to model.onnx and model.yaml, with a parity check between torch and ONNX Runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
import yaml

from perception_models.detection.network import INPUTS, OUTPUTS, CompactDetector, DeployedDetector
from perception_models.detection.preprocess import prepare
from perception_models.detection.settings import DetectionSettings
from perception_models.simulation.drive import simulate_drive

OPSET = 17
PARITY = 1e-3
TOKEN_INPUTS = ("points", "point_bias", "token_bias")
INDEX_INPUTS = ("orders", "inverse", "positions")
PILLAR_INPUTS = ("occupancy", "statistics")

Arrays = dict[str, npt.NDArray[np.generic]]


def load_checkpoint(path: Path) -> CompactDetector:
    """The averaged network of a training checkpoint, in evaluation mode."""
    state = torch.load(path, weights_only=True)
    network = CompactDetector(DetectionSettings.from_dict(state["settings"]), attention=state["recipe"]["attention"])
    network.load_state_dict(state["average"])
    return network.eval()


def export(
    network: CompactDetector, folder: Path, variant: str = "compact", figures: dict[str, Any] | None = None
) -> Path:
    """Write folder/model.onnx and folder/model.yaml, with `figures` in the latter -> path of the ONNX file.

    Raises ValueError when ONNX Runtime and torch differ by more than PARITY on a simulated scan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    frame = next(simulate_drive(seed=0, seconds=0.1))
    example = prepare(frame.points, network.settings).tensors
    write_onnx(network, example, path)
    difference = parity(network, example, path)
    if difference > PARITY:
        raise ValueError(f"ONNX Runtime differs from torch by {difference:.2e}, more than {PARITY}: do not ship {path}")
    facts = describe(network.settings, variant, path, example)
    facts["figures"] = {"torch_to_onnx_difference": float(f"{difference:.1e}"), **(figures or {})}
    (folder / "model.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))
    return path


def write_onnx(network: CompactDetector, example: Arrays, path: Path) -> None:
    """Trace the network on example tensors; the numbers of pillars and tokens stay symbolic."""
    torch.onnx.export(
        DeployedDetector(network).eval(),
        tuple(torch.from_numpy(example[name]) for name in INPUTS),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        dynamic_axes={name: _symbolic(name) for name in INPUTS},
    )


def parity(network: CompactDetector, example: Arrays, path: Path) -> float:
    """Largest absolute difference between torch and ONNX Runtime over all outputs on example tensors."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = DeployedDetector(network).eval()(*(torch.from_numpy(example[name]) for name in INPUTS))
    computed = session.run(None, {entry.name: example[entry.name] for entry in session.get_inputs()})
    return max(float(np.abs(a - b.numpy()).max()) for a, b in zip(computed, expected, strict=True))


def describe(settings: DetectionSettings, variant: str, path: Path, example: Arrays) -> dict[str, Any]:
    """What model.yaml says about the ONNX file beside it."""
    size = settings.grid.size // settings.stride
    # A network without attention does not use every input, and the exporter leaves those out.
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    shapes = {"heatmap": [len(settings.classes), size, size], "box": [10, size, size], "iou": [size, size]}
    return {
        "task": "detection",
        "variant": variant,
        "classes": list(settings.classes),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "opset": OPSET,
        "inputs": {name: {"shape": _shape(name, example), "dtype": str(example[name].dtype)} for name in names},
        "outputs": {name: {"shape": shape, "dtype": "float32"} for name, shape in shapes.items()},
        "capacity": {"pillars": settings.max_pillars, "tokens": settings.max_tokens},
        "precision_bound": {"heatmap": 0.05, "box": 0.1, "iou": 0.05},
        "settings": settings.to_dict(),
    }


def _symbolic(name: str) -> dict[int, str]:
    if name in INDEX_INPUTS:
        return {1: "tokens"}
    if name in TOKEN_INPUTS:
        return {0: "tokens"}
    return {0: "pillars"} if name in PILLAR_INPUTS else {}


def _shape(name: str, example: Arrays) -> list[int | str]:
    symbolic = _symbolic(name)
    return [symbolic.get(axis, length) for axis, length in enumerate(example[name].shape)]
