# SPDX-License-Identifier: Apache-2.0
"""The network of a scene as bytes for its map: a weights folder, checked against torch, in one archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from perception_models.onnx_export import Tensors, export_checked
from perception_models.relocalization.network import INPUTS, OUTPUTS, SceneNet
from perception_models.runtime.describe import describe_model

CAPACITY = {"points": 1024, "lines": 256}
OF_POINTS = ("descriptors", "point_weight", "points", "reliability")
OF_LINES = ("line_tokens", "line_weight", "lines", "line_reliability")
LARGE = 1024  # tensors of this many numbers and more are stored as bytes
TOKENS = 12


def pack_network(network: SceneNet, figures: Mapping[str, float | int]) -> bytes:
    """An archive that `SceneNetwork.from_bytes` reads; `figures` go into its model.yaml.

    Raises ValueError when ONNX Runtime and torch differ too much.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        axes = {name: {0: "points"} for name in OF_POINTS} | {name: {0: "lines"} for name in OF_LINES}
        example = random_input(network.settings.dimensions)
        difference = export_checked(network, INPUTS, OUTPUTS, example, axes, folder / "model.onnx")
        shrink_weights(folder / "model.onnx")
        measured = {**figures, "torch_to_onnx_difference": difference}
        describe_model(folder, "relocalization", "scene", capacity=CAPACITY, figures=measured)
        return _archive(folder)


def random_input(dimensions: int, points: int = 200, lines: int = 20, seed: int = 0) -> Tensors:
    """Inputs of the network made of unit vectors that mean nothing."""
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(points + lines * TOKENS, dimensions)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return {
        "descriptors": descriptors[:points],
        "point_weight": np.ones(points, np.float32),
        "line_tokens": descriptors[points:].reshape(lines, TOKENS, dimensions),
        "line_weight": np.ones(lines, np.float32),
    }


def shrink_weights(path: Path) -> None:
    """Store the large weights of an ONNX file as signed bytes, each row in steps of its own; the graph still computes
    in single precision. Anchors stay as they are: they are metres, and a byte's step would be centimetres."""
    model = onnx.load(path)
    graph = model.graph
    large = [w for w in graph.initializer if w.data_type == TensorProto.FLOAT and np.prod(w.dims) >= LARGE]
    for weight in large:
        if weight.name.endswith("anchors"):
            continue
        values = numpy_helper.to_array(weight)
        step = np.maximum(np.abs(values).max(axis=1), 1e-12).astype(np.float32) / 127
        parts = {"_bytes": np.rint(values / step[:, None]).astype(np.int8), "_step": step}
        names = [weight.name + part for part in parts]
        graph.initializer.remove(weight)
        graph.initializer.extend(numpy_helper.from_array(part, weight.name + name) for name, part in parts.items())
        graph.node.insert(0, helper.make_node("DequantizeLinear", names, [weight.name], axis=0))
    onnx.save(model, path)


def _archive(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return content.getvalue()
