# SPDX-License-Identifier: Apache-2.0
"""An official detector to model.onnx and model.yaml, with a parity check between torch and ONNX Runtime."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from perception_models.classes import CLASSES
from perception_models.detection.export import BOUNDS
from perception_models.detection.official import OfficialDetector
from perception_models.detection.official_preprocess import (
    DsvtSettings,
    OfficialSettings,
    prepare_official,
)
from perception_models.geometry.pillars import Floats
from perception_models.onnx_export import export_checked
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples

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
    Raises ValueError for a detector without a centre head, and when ONNX Runtime and torch differ too much.
    """
    if detector.outputs != tuple(BOUNDS):
        raise ValueError(f"{name} ends in a bird's-eye feature map, its head is not supported: it cannot detect")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    example = prepare_official(scan, detector.settings).tensors
    difference = export_checked(detector, detector.inputs, detector.outputs, example, SYMBOLIC, path)
    describe_model(
        folder,
        "detection",
        name,
        classes=list(CLASSES),
        capacity=_capacity(detector.settings),
        precision_bound=BOUNDS,
        settings={"official": name, "grid": asdict(detector.settings.grid), "stride": 1, **SCORING[name]},
        figures={"torch_to_onnx_difference": difference},
    )
    save_samples(folder, [prepare_official(scan, detector.settings, pad_to_capacity=True).tensors])
    return path


def _capacity(settings: OfficialSettings) -> dict[str, int]:
    capacity = {"points": settings.max_points, "pillars": settings.max_pillars}
    if isinstance(settings, DsvtSettings):
        capacity |= {f"sets_{number}": settings.max_sets(windows) for number, windows in enumerate(settings.windows)}
    return capacity
