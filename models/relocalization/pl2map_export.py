# SPDX-License-Identifier: Apache-2.0
"""The published networks of relocalization to model.onnx and model.yaml, checked between torch and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perception_models.onnx_export import Tensors, export_checked
from perception_models.relocalization import pl2map, superpoint_network
from perception_models.relocalization.pl2map import CHANNELS, LINE_TOKENS, Pl2Map
from perception_models.relocalization.superpoint_network import SuperPoint
from perception_models.runtime.describe import describe_model

TASK = "relocalization"
CAPACITY = {"points": 2048, "lines": 1024}
LARGEST_IMAGE = {"height": 1024, "width": 1024, "rows": 128, "columns": 128}


def export_pl2map(network: Pl2Map, folder: Path) -> Path:
    """Write a scene's network -> `folder`. Raises ValueError when ONNX Runtime and torch differ too much."""
    folder.mkdir(parents=True, exist_ok=True)
    of_points = ("point_descriptors", "point_bias", "points", "point_reliability")
    of_lines = ("line_tokens", "line_bias", "lines", "line_reliability")
    axes = {name: {0: "points"} for name in of_points} | {name: {0: "lines"} for name in of_lines}
    example = random_descriptors(200, 50)
    path = folder / "model.onnx"
    difference = export_checked(network, pl2map.INPUTS, pl2map.OUTPUTS, example, axes, path)
    describe_model(folder, TASK, "pl2map", capacity=CAPACITY, figures={"torch_to_onnx_difference": difference})
    return folder


def export_superpoint(network: SuperPoint, folder: Path) -> Path:
    """Write the feature extractor -> `folder`. Raises ValueError when ONNX Runtime and torch differ too much."""
    folder.mkdir(parents=True, exist_ok=True)
    image: Tensors = {"image": np.random.default_rng(0).random((1, 1, 120, 160), np.float32)}
    axes = {"image": {2: "height", 3: "width"}, "heat": {2: "height", 3: "width"}}
    axes["descriptors"] = {2: "rows", 3: "columns"}
    path = folder / "model.onnx"
    difference = export_checked(network, superpoint_network.INPUTS, superpoint_network.OUTPUTS, image, axes, path)
    figures = {"torch_to_onnx_difference": difference}
    describe_model(folder, TASK, "superpoint", capacity=LARGEST_IMAGE, figures=figures)
    return folder


def random_descriptors(points: int, lines: int, seed: int = 0) -> Tensors:
    """Inputs of the network made of unit vectors that mean nothing."""
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(points + lines * LINE_TOKENS, CHANNELS)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return {
        "point_descriptors": descriptors[:points],
        "line_tokens": descriptors[points:].reshape(lines, LINE_TOKENS, CHANNELS),
        "point_bias": np.zeros(points, np.float32),
        "line_bias": np.zeros(lines, np.float32),
    }
