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
HALVED = 1024  # tensors of this many numbers and more are stored with half precision
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
        halve_weights(folder / "model.onnx")
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


def halve_weights(path: Path) -> None:
    """Store the large weights of an ONNX file with half precision; the graph still computes in single precision."""
    model = onnx.load(path)
    large = [w for w in model.graph.initializer if w.data_type == TensorProto.FLOAT and np.prod(w.dims) >= HALVED]
    for weight in large:
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name + "_half")
        cast = helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT)
        model.graph.initializer.remove(weight)
        model.graph.initializer.append(half)
        model.graph.node.insert(0, cast)
    onnx.save(model, path)


def _archive(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return content.getvalue()
