# SPDX-License-Identifier: Apache-2.0
"""Weights that are kept in FP16 and computed with in FP32: a model file of half the size, with the same answers."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

SMALLEST = 1024  # numbers in a tensor that is worth it
SUFFIX = ".stored"


def shrink(model: ModelProto) -> None:
    """Keep every large FP32 tensor in FP16 that loses nothing by it, behind a cast that engines fold when they load."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float16)
        if np.array_equal(narrow.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(narrow, name + SUFFIX))
            casts.append(
                helper.make_node("Cast", [name + SUFFIX], [name], name=f"{name}.widened", to=TensorProto.FLOAT)
            )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def expand(model: ModelProto) -> None:
    """Undo `shrink`."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.name.endswith(SUFFIX)}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            tensor = stored[node.input[0]]
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
