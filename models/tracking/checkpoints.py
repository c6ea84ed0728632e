# SPDX-License-Identifier: Apache-2.0
"""Loads published checkpoint files of single-object trackers: names are matched, weights are never altered.

They become models that run here as networks, with the inputs of `m2track` and `p2b`; MultiTracker does not run them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from perception_models.checkpoint_files import best_fit, empty_state, filled, fitting, read_state
from perception_models.onnx_export import Tensors, export_checked
from perception_models.runtime.describe import describe_model
from perception_models.tracking import m2track, p2b

CAPACITY = 8
PUBLISHED: dict[str, type[nn.Module]] = {"m2track": m2track.M2Track, "p2b": p2b.P2B}
NAMES = {"m2track": (m2track.INPUTS, m2track.OUTPUTS), "p2b": (p2b.INPUTS, p2b.OUTPUTS)}


def import_checkpoint(file: Path, name: str) -> nn.Module:
    """The tracker `name` (a key of PUBLISHED) with the weights of a checkpoint file, in evaluation mode.

    Raises BadWeights when the file is no checkpoint, or when keys or shapes do not fit; ValueError for an unknown name.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown tracker {name!r}; there are {', '.join(PUBLISHED)}")
    return _filled(name, read_state(file), file)


def import_weights(file: Path, out_dir: Path) -> Path:
    """Recognise, load and export a checkpoint file -> the folder out_dir/<name> with model.onnx and model.yaml.

    Raises BadWeights as `import_checkpoint`.
    """
    state = read_state(file)
    name = recognise(state)
    return export_published(_filled(name, state, file), name, out_dir / name)


def recognise(state: Mapping[str, Tensor]) -> str:
    """The tracker whose names and shapes the most entries fit."""
    return best_fit(PUBLISHED, lambda name: fitting(empty_state(PUBLISHED[name]), state), "trackers")


def export_published(network: nn.Module, name: str, folder: Path) -> Path:
    """Write model.onnx and model.yaml -> the folder. Raises ValueError where ONNX Runtime and torch differ."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs, outputs = NAMES[name]
    symbolic = {tensor: {0: "targets"} for tensor in (*inputs, *outputs)}
    difference = export_checked(network, inputs, outputs, example(name), symbolic, folder / "model.onnx")
    _fix_shapes(network, name, folder / "model.onnx")
    figures = {"torch_to_onnx_difference": difference}
    describe_model(
        folder, "tracking", name, capacity={"targets": CAPACITY}, settings={"official": name}, figures=figures
    )
    return folder


def _fix_shapes(network: nn.Module, name: str, path: Path) -> None:
    """Write the lengths of the outputs' axes that the exporter could not tell: all but the first are fixed."""
    with torch.inference_mode():
        outputs = network(*(torch.from_numpy(array) for array in example(name).values()))
    model = onnx.load(path)
    for value, output in zip(model.graph.output, outputs, strict=True):
        for axis, length in zip(value.type.tensor_type.shape.dim[1:], output.shape[1:], strict=True):
            axis.dim_value = length
    onnx.save(model, path)


def example(name: str) -> Tensors:
    """Random points of two targets, as the tracker takes them."""
    rng = np.random.default_rng(0)
    if name == "m2track":
        return {"points": rng.normal(0, 1, (2, m2track.CHANNELS, 2 * m2track.POINTS)).astype(np.float32)}
    sizes = {"template": p2b.TEMPLATE, "search": p2b.SEARCH}
    return {key: rng.normal(0, 1, (2, count, 3)).astype(np.float32) for key, count in sizes.items()}


def _filled(name: str, state: Mapping[str, Tensor], file: Path) -> nn.Module:
    return filled(PUBLISHED[name](), name, state, file)
