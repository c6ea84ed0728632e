# SPDX-License-Identifier: Apache-2.0
"""Weights kept in FP16: the same answers from a smaller file, on every way to an engine."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from perception_models.runtime.half import to_half
from perception_models.runtime.stored import expand, shrink


def product(weights: np.ndarray) -> onnx.ModelProto:
    """x (1, N) times weights (N, M)."""
    rows, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, columns])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(model: onnx.ModelProto | bytes, x: np.ndarray) -> np.ndarray:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return np.asarray(onnxruntime.InferenceSession(content).run(None, {"x": x})[0])


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 48)).astype(np.float16).astype(np.float32)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)


def test_the_file_is_half_as_large_and_answers_the_same(weights: np.ndarray, x: np.ndarray) -> None:
    model = product(weights)
    size, expected = model.ByteSize(), answer(model, x)
    shrink(model)
    assert model.ByteSize() < 0.55 * size
    np.testing.assert_array_equal(answer(model, x), expected)
    expand(model)
    assert model.SerializeToString() == product(weights).SerializeToString()


def test_what_fp16_does_not_hold_exactly_is_left_alone(weights: np.ndarray) -> None:
    for value in (1.0001, 1e6):
        weights[0, 0] = value
        model = product(weights)
        shrink(model)
        assert model.SerializeToString() == product(weights).SerializeToString()


def test_a_stored_model_becomes_the_fp16_engine_of_the_plain_one(weights: np.ndarray, x: np.ndarray) -> None:
    model = product(weights)
    plain = to_half(model.SerializeToString())
    shrink(model)
    stored = to_half(model.SerializeToString())
    np.testing.assert_array_equal(answer(stored, x), answer(plain, x))
    assert len(stored) < 1.1 * len(plain) and len(plain) < 0.6 * product(weights).ByteSize() + 1000
