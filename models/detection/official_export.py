# SPDX-License-Identifier: Apache-2.0
"""An official detector to model.onnx and model.yaml, with a parity check between torch and ONNX Runtime."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped,unused-ignore]
import torch
import yaml  # type: ignore[import-untyped,unused-ignore]
from torch import Tensor

from perception_models.detection.official import OfficialDetector
from perception_models.detection.official_preprocess import (
    DsvtSettings,
    OfficialSettings,
    Tensors,
    prepare_official,
)
from perception_models.detection.settings import CLASSES
from perception_models.geometry.pillars import Floats
from perception_models.runtime.precision import save_samples

OPSET = 17
PARITY = 1e-3
BOUNDS = {"heatmap": 0.05, "box": 0.1, "iou": 0.05}
# As published: how heat and IoU make the score, and the overlaps of the suppression.
SCORING = {
    "dsvt_pillar_waymo": {
        "heat_power": [0.32, 0.29, 0.35],
        "iou_power": [0.68, 0.71, 0.65],
        "nms_iou": [0.7, 0.6, 0.55],
    },
    "flatformer_waymo": {"heat_power": [1.0] * 3, "iou_power": [2.0] * 3, "nms_iou": [0.8, 0.55, 0.55]},
}
SYMBOLIC: dict[str, dict[int, str]] = {
    "point_features": {0: "points"},
    "point_last": {0: "points"},
    "point_pillar": {0: "points"},
    "pillar_first": {0: "pillars"},
    "orders": {1: "pillars"},
    "inverse": {1: "pillars"},
    "positions": {1: "pillars"},
    "token_bias": {0: "pillars"},
}
for _shift in range(2):
    SYMBOLIC[f"members_{_shift}"] = SYMBOLIC[f"duplicates_{_shift}"] = {1: f"sets_{_shift}"}
    SYMBOLIC[f"slots_{_shift}"] = {1: "pillars"}
    SYMBOLIC[f"positions_{_shift}"] = {0: "pillars"}


def export_official(detector: OfficialDetector, name: str, folder: Path, scan: Floats) -> Path:
    """Write model.onnx, model.yaml and samples.npz of the official detector `name` -> path of the ONNX file.

    scan: (N, 4) x y z intensity in the frame of the grid; parity is checked and reduced precision judged on it.
    Raises ValueError for a detector without a centre head, and when ONNX Runtime and torch differ by more than PARITY.
    """
    if detector.outputs != tuple(BOUNDS):
        raise ValueError(f"{name} ends in a bird's-eye feature map, its head is not supported: it cannot detect")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    example = prepare_official(scan, detector.settings).tensors
    write_onnx(detector, example, path)
    difference = parity(detector, example, path)
    if not difference <= PARITY:
        raise ValueError(f"ONNX Runtime differs from torch by {difference:.2e}, more than {PARITY}: do not use {path}")
    facts = describe(detector, name, path, example)
    facts["figures"] = {"torch_to_onnx_difference": float(f"{difference:.1e}")}
    (folder / "model.yaml").write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
    save_samples(folder, [prepare_official(scan, detector.settings, pad_to_capacity=True).tensors])
    return path


def write_onnx(detector: OfficialDetector, example: Tensors, path: Path) -> None:
    """Trace the detector on example tensors; the numbers of points, pillars and sets stay symbolic."""
    torch.onnx.export(
        detector.eval(),
        _arguments(detector, example),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(detector.inputs),
        output_names=list(detector.outputs),
        dynamic_axes={name: SYMBOLIC[name] for name in detector.inputs if name in SYMBOLIC},
    )


def parity(detector: OfficialDetector, example: Tensors, path: Path) -> float:
    """Largest absolute difference between torch and ONNX Runtime over all outputs; NaN where either is not finite."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = detector.eval()(*_arguments(detector, example))
    computed = session.run(None, {name: example[name] for name in detector.inputs})
    return float(np.max([np.abs(a - b.numpy()).max() for a, b in zip(computed, expected, strict=True)]))


def describe(detector: OfficialDetector, name: str, path: Path, example: Tensors) -> dict[str, Any]:
    """What model.yaml says about the ONNX file beside it."""
    size = detector.settings.grid.size
    shapes = {"heatmap": [len(CLASSES), size, size], "box": [10, size, size], "iou": [size, size]}
    return {
        "task": "detection",
        "variant": name,
        "classes": list(CLASSES),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "opset": OPSET,
        "inputs": {key: {"shape": _shape(key, example), "dtype": str(example[key].dtype)} for key in detector.inputs},
        "outputs": {key: {"shape": shape, "dtype": "float32"} for key, shape in shapes.items()},
        "capacity": _capacity(detector.settings),
        "precision_bound": BOUNDS,
        "settings": {"official": name, "grid": asdict(detector.settings.grid), "stride": 1, **SCORING[name]},
    }


def _arguments(detector: OfficialDetector, example: Tensors) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(example[name]) for name in detector.inputs)


def _capacity(settings: OfficialSettings) -> dict[str, int]:
    capacity = {"points": settings.max_points, "pillars": settings.max_pillars}
    if isinstance(settings, DsvtSettings):
        capacity |= {f"sets_{number}": settings.max_sets(windows) for number, windows in enumerate(settings.windows)}
    return capacity


def _shape(name: str, example: Tensors) -> list[int | str]:
    return [SYMBOLIC.get(name, {}).get(axis, length) for axis, length in enumerate(example[name].shape)]
