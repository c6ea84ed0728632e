# SPDX-License-Identifier: Apache-2.0
"""The precision gate and the conversion to FP16."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from test_runtime_facts import tiny_inputs, write_tiny_model

from perception_models.runtime import BadWeights, UnsupportedBackend
from perception_models.runtime.half import graph_precision, to_half
from perception_models.runtime.onnxruntime_backend import OnnxRuntimeEngine
from perception_models.runtime.precision import Verdict, first_accepted, gate, parse_samples, read_samples, save_samples

SAMPLES: list[dict[str, NDArray[Any]]] = [{"points": np.full(3, value, np.float32)} for value in (1.0, 2.0, 3.0)]


def engine_with_error(error: float) -> Callable[..., dict[str, np.ndarray]]:
    """A fake engine that is exact, except on the last sample."""
    return lambda points: {"scores": points + np.where(points == 3.0, error, 0.0), "labels": np.arange(3)}


@pytest.mark.parametrize(
    ("error", "accepted"), [(0.0, True), (0.09, True), (0.11, False), (np.nan, False), (np.inf, False)]
)
def test_an_engine_is_accepted_within_its_bound_only(error: float, accepted: bool) -> None:
    verdict = gate(engine_with_error(error), engine_with_error(0.0), SAMPLES, {"scores": 0.1, "labels": 0.0})
    assert verdict.accepted is accepted
    assert "scores differs by" in verdict.reason and "bound 0.1" in verdict.reason


def test_equal_infinities_are_no_error() -> None:
    run = lambda points: {"scores": np.where(points == 1.0, -np.inf, points)}  # noqa: E731
    assert gate(run, run, SAMPLES, {"scores": 0.0}).accepted


@pytest.mark.parametrize(
    ("samples", "bound", "reason"), [([], {"scores": 1.0}, "no recorded inputs"), (SAMPLES, {}, "no precision_bound")]
)
def test_without_evidence_nothing_is_accepted(samples: list[Any], bound: dict[str, float], reason: str) -> None:
    verdict = gate(engine_with_error(0.0), engine_with_error(0.0), samples, bound)
    assert not verdict.accepted and reason in verdict.reason


def test_a_refused_precision_falls_to_the_next_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[str] = []

    def attempt(precision: str) -> str | Verdict:
        tried.append(precision)
        return Verdict(False, "scores differs by 7") if precision == "fp16" else "an fp32 engine"

    assert first_accepted("detection/compact", "fp16", attempt) == "an fp32 engine"
    assert tried == ["fp16", "fp32"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "detection/compact does not run in fp16: scores differs by 7" in caplog.text


def test_an_accepted_precision_is_taken_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert first_accepted("detection/compact", "fp16", lambda precision: precision) == "fp16"
    assert first_accepted("detection/compact", "fp32", lambda precision: precision) == "fp32"
    assert not caplog.records
    with pytest.raises(UnsupportedBackend, match="'int4' is unknown"):
        first_accepted("detection/compact", "int4", lambda precision: precision)


def test_recorded_inputs_come_back_as_they_were(tmp_path: Path) -> None:
    assert parse_samples(read_samples(tmp_path)) == []
    samples = [tiny_inputs(seed=seed) for seed in range(11)]
    save_samples(tmp_path, samples)
    for saved, read in zip(samples, parse_samples(read_samples(tmp_path)), strict=True):
        assert saved.keys() == read.keys()
        for name, array in saved.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == array.dtype


def test_damaged_recorded_inputs_are_named(tmp_path: Path) -> None:
    path = save_samples(tmp_path, [tiny_inputs()])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadWeights, match=r"samples\.npz is damaged"):
        parse_samples(read_samples(tmp_path))


def value_types(model: bytes) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model), strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output, *graph.input)}


def test_products_run_in_half_and_norms_and_softmax_in_full(tmp_path: Path) -> None:
    facts = write_tiny_model(tmp_path)
    half = to_half(facts.read_onnx())
    assert graph_precision(facts.read_onnx()) == "fp32" and graph_precision(half) == "fp16"
    types = value_types(half)
    for name in ("product.half", "sum.half", "features.half"):
        assert types[name] == TensorProto.FLOAT16
    for name in ("features", "normed", "weights", "gathered", "scores", "points"):
        assert types[name] == TensorProto.FLOAT


def test_named_nodes_stay_in_full(tmp_path: Path) -> None:
    facts = write_tiny_model(tmp_path)
    kept = to_half(facts.read_onnx(), keep_fp32=["/embed/"])
    assert graph_precision(kept) == "fp32"
    assert TensorProto.FLOAT16 not in value_types(kept).values()


def test_the_half_graph_stays_near_the_full_one(tmp_path: Path) -> None:
    facts = write_tiny_model(tmp_path)
    half = OnnxRuntimeEngine(facts, model=to_half(facts.read_onnx()))
    full = OnnxRuntimeEngine(facts)
    assert half.info.precision == "fp16"
    error = np.abs(half(**tiny_inputs())["scores"] - full(**tiny_inputs())["scores"]).max()
    assert 0 < error < 5e-3


def convert(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], outputs: list[str]) -> onnx.ModelProto:
    """The half form of a graph on one input x (4, 4)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return onnx.load_from_string(to_half(model.SerializeToString()))


def test_a_tensor_is_cast_once_however_many_nodes_need_it() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"])]
    nodes += [helper.make_node("Softmax", ["product"], [f"softmax{i}"]) for i in range(3)]
    nodes += [helper.make_node("Sum", [f"softmax{i}" for i in range(3)] + ["product"], ["y"])]
    model = convert(nodes, {"w": np.eye(4)}, ["y", "product"])
    assert [node.op_type for node in model.graph.node].count("Cast") == 2


def test_a_residual_stream_in_full_stays_in_full() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["x", "product"], ["residual"]),
        helper.make_node("MatMul", ["residual", "w"], ["again"]),
        helper.make_node("Relu", ["again"], ["y"]),
    ]
    types = value_types(convert(nodes, {"w": np.eye(4)}, ["y"]).SerializeToString())
    assert types["residual"] == TensorProto.FLOAT and types["residual.half"] == TensorProto.FLOAT16
    assert types["y.half"] == TensorProto.FLOAT16 and types["y"] == TensorProto.FLOAT


def test_constants_beyond_the_range_of_half_are_clipped() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Add", ["product", "b"], ["y"])]
    model = convert(nodes, {"w": np.eye(4), "b": np.array([-1e9, 1e9, -np.inf, 1.0])}, ["y"])
    halves = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(halves["b.half"], np.array([-65504, 65504, -np.inf, 1], np.float16))


def test_scattering_sums_stay_in_full_and_plain_scatters_follow() -> None:
    index = helper.make_node("Constant", [], ["index"], value=numpy_helper.from_array(np.zeros((4, 4), np.int64)))
    shape = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([4, 4])))
    nodes = [
        index,
        shape,
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("ConstantOfShape", ["shape"], ["empty"]),
        helper.make_node("ScatterElements", ["empty", "index", "product"], ["placed"]),
        helper.make_node("ScatterElements", ["empty", "index", "product"], ["summed"], reduction="add"),
    ]
    types = value_types(convert(nodes, {"w": np.eye(4)}, ["placed", "summed"]).SerializeToString())
    assert types["placed.half"] == TensorProto.FLOAT16 and "summed.half" not in types


def test_a_graph_with_branches_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["branch"])],
        "body",
        [],
        [helper.make_tensor_value_info("branch", TensorProto.FLOAT, [4, 4])],
    )
    condition = helper.make_node("Constant", [], ["condition"], value=numpy_helper.from_array(np.array(True)))
    branch = helper.make_node("If", ["condition"], ["y"], name="/if", then_branch=body, else_branch=body)
    with pytest.raises(BadWeights, match=r"'/if' \(If\) holds a sub-graph"):
        convert([condition, branch], {}, ["y"])
