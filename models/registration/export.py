# SPDX-License-Identifier: Apache-2.0
"""A trained checkpoint as a folder of weights: model.onnx, model.yaml and recorded inputs for the precision gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception_models.onnx_export import export_checked
from perception_models.registration.network import (
    CLOUD_INPUTS,
    INPUTS,
    OUTPUTS,
    DeployedNetwork,
    NetworkSettings,
    RegistrationNetwork,
)
from perception_models.registration.network_input import (
    MAX_NODES,
    MAX_POINTS,
    MAX_SUPER,
    Tensors,
    pad_pair,
    pair_tensors,
)
from perception_models.registration.preprocess import Cloud, prepare
from perception_models.registration.settings import INDOOR
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples

# Descriptors multiply to logits of some tens; half a unit of one moves no match.
BOUNDS = {
    f"{side}_{name}": bound
    for side in ("source", "target")
    for name, bound in (("descriptors", 0.1), ("matchability", 0.1), ("super_descriptors", 0.05))
}
KEEP_FP32 = ("/network/transformer/transport",)  # couplings hold masses of a thousandth and less


def load_checkpoint(path: Path) -> RegistrationNetwork:
    """The averaged network of a training checkpoint, in evaluation mode."""
    state = torch.load(path, weights_only=True)
    network = RegistrationNetwork(NetworkSettings(**state["settings"]))
    network.load_state_dict(state["average"])
    return network.eval()


def export(network: RegistrationNetwork, folder: Path, variant: str = "compact", **figures: Any) -> Path:
    """Write the weights folder, with `figures` in its model.yaml -> path of the ONNX file.

    Raises ValueError when ONNX Runtime and torch differ by more than `onnx_export.PARITY` on an example.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    example = pair_tensors(example_cloud(0), example_cloud(1))
    difference = export_checked(DeployedNetwork(network), INPUTS, OUTPUTS, example, symbolic_axes(example), path)
    facts = describe_model(
        folder,
        "registration",
        variant,
        capacity={
            f"{side}_{axis}": length
            for side in ("source", "target")
            for axis, length in (("points", MAX_POINTS), ("nodes", MAX_NODES), ("super", MAX_SUPER))
        },
        precision_bound=BOUNDS,
        keep_fp32=list(KEEP_FP32),
        settings={**network.settings.to_dict(), "feature_radii": list(INDOOR.feature_radii)},
        figures={"torch_to_onnx_difference": difference, **figures},
    )
    recorded = pad_pair(example)
    save_samples(folder, [{name: recorded[name] for name in facts.inputs}])
    return path


def symbolic_axes(example: Tensors) -> dict[str, dict[int, str]]:
    """Names of the axes of every tensor, by their lengths in an example in which all of them differ."""
    axes: dict[str, dict[int, str]] = {}
    for side in ("source", "target"):
        lengths = {
            len(example[f"{side}_{name}"]): f"{side}_{axis}"
            for name, axis in (("features", "points"), ("nodes", "nodes"), ("mask", "super"))
        }
        for name in CLOUD_INPUTS:
            shape = example[f"{side}_{name}"].shape
            leading = shape[:2] if name in ("distances", "angles") else shape[:1]
            axes[f"{side}_{name}"] = {axis: lengths[length] for axis, length in enumerate(leading)}
        axes[f"{side}_descriptors"] = axes[f"{side}_matchability"] = {0: f"{side}_points"}
        axes[f"{side}_super_descriptors"] = {0: f"{side}_super"}
    return axes


def example_cloud(seed: int) -> Cloud:
    """A corner of a room with boxes, as a depth camera sees it: all that recording inputs needs."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1.0, (12000, 3))
    faces = rng.integers(0, 3, len(points))
    points[np.arange(len(points)), faces] = 0
    for _ in range(3):
        size, corner = rng.uniform(0.2, 0.4, 3), rng.uniform(0.1, 0.6, 3)
        box = rng.uniform(0, 1, (3000, 3))
        box[np.arange(len(box)), rng.integers(0, 3, len(box))] = 1.0
        points = np.concatenate([points, corner + box * size])
    noisy = points + rng.normal(0, 0.003, points.shape)
    return prepare((noisy - [0.6, 0.6, 0.6]).astype(np.float32), INDOOR)
