# SPDX-License-Identifier: Apache-2.0
"""Model facts: what is read from model.yaml, and what is said about weights that are not right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]
from onnx import TensorProto, helper, numpy_helper

from perception_models.runtime import BadWeights, ModelFacts, load_facts
from perception_models.runtime.describe import describe_model

CAPACITY = 32


def write_tiny_model(folder: Path, seed: int = 0, **facts: Any) -> ModelFacts:
    """A small model with a symbolic axis, an index input and a mask: softmax(norm(relu(xW + b)))[index] * mask."""
    rng = np.random.default_rng(seed)
    constants = {
        "weight": rng.normal(size=(8, 4)),
        "bias": rng.normal(size=4),
        "scale": np.ones(4),
        "zero": np.zeros(1),
    }
    nodes = [
        helper.make_node("MatMul", ["points", "weight"], ["product"], name="/embed/MatMul"),
        helper.make_node("Add", ["product", "bias"], ["sum"], name="/embed/Add"),
        helper.make_node("Relu", ["sum"], ["features"], name="/embed/Relu"),
        helper.make_node("LayerNormalization", ["features", "scale"], ["normed"], name="/norm"),
        helper.make_node("Softmax", ["normed"], ["weights"], name="/softmax", axis=-1),
        helper.make_node("Gather", ["weights", "index"], ["gathered"], name="/gather"),
        helper.make_node("Where", ["mask", "gathered", "zero"], ["scores"], name="/mask"),
    ]
    inputs = [
        helper.make_tensor_value_info("points", TensorProto.FLOAT, ["pillars", 8]),
        helper.make_tensor_value_info("index", TensorProto.INT64, ["pillars"]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, ["pillars", 1]),
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["pillars", 4])]
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return describe_model(folder, "tiny", folder.name, capacity={"pillars": CAPACITY}, **facts)


def tiny_inputs(pillars: int = CAPACITY, seed: int = 1) -> dict[str, np.ndarray]:
    """Inputs for the tiny model."""
    rng = np.random.default_rng(seed)
    return {
        "points": rng.normal(size=(pillars, 8)).astype(np.float32),
        "index": rng.permutation(pillars),
        "mask": rng.random((pillars, 1)) < 0.8,
    }


def change_yaml(folder: Path, **changes: Any) -> None:
    """Overwrite entries of model.yaml; None removes one."""
    path = folder / "model.yaml"
    document = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump({key: value for key, value in document.items() if value is not None}))


def test_facts_tell_names_shapes_types_and_settings(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, classes=["vehicle"], settings={"pillar_size": 0.32}, precision_bound=0.01)
    facts = load_facts(tmp_path)
    assert facts.name == f"tiny/{tmp_path.name}" and facts.opset == 17 and facts.classes == ("vehicle",)
    assert facts.inputs["points"].shape == ("pillars", 8) and facts.inputs["index"].dtype == np.int64
    assert facts.outputs["scores"].shape_at(facts.capacity) == (CAPACITY, 4)
    assert facts.settings["pillar_size"] == 0.32 and facts.precision_bound == {"scores": 0.01}


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    content = bytearray((tmp_path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BadWeights, match="damaged or was replaced"):
        load_facts(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "compact")
    with pytest.raises(BadWeights, match="variants here: compact"):
        load_facts(tmp_path / "huge")
    (tmp_path / "compact" / "model.onnx").unlink()
    with pytest.raises(BadWeights, match=r"model\.onnx is missing"):
        load_facts(tmp_path / "compact")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": None, "task": None}, "lacks task, sha256"),
        ({"capacity": None}, "axis 'pillars' of '.*' has no `capacity`"),
        ({"inputs": {"points": {"shape": ["pillars", 8], "dtype": "float33"}}}, "wrong form"),
        ({"inputs": ["points"]}, "wrong form"),
        ({"precision_bound": {"boxes": 0.1}}, "the outputs are"),
        ({"learning_rate": 1}, "unknown keys"),
    ],
)
def test_wrong_facts_are_explained(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_tiny_model(tmp_path)
    change_yaml(tmp_path, **changes)
    with pytest.raises(BadWeights, match=message):
        load_facts(tmp_path)


@pytest.mark.parametrize("text", ["a: [", "just words", ""])
def test_a_file_that_holds_no_facts_is_refused(tmp_path: Path, text: str) -> None:
    write_tiny_model(tmp_path)
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(BadWeights, match=r"model\.yaml"):
        load_facts(tmp_path)
