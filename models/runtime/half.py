# SPDX-License-Identifier: Apache-2.0
"""FP32 ONNX graph -> mixed FP16/FP32 graph, and which of the two a graph is.

The policy is that of autocast: matrix products and convolutions run in FP16; what merely follows them (bias, ReLU,
reshaping) stays in FP16 while all its float inputs are FP16; everything else, so LayerNorm, softmax, reductions,
geometry and residual sums with an FP32 stream, is FP32. Every tensor lives in its producer's type and is cast once
where the other type is needed. Inputs and outputs keep their types. ONNX Runtime's own converter is not used: it
rounds all inputs to FP16 even for nodes that it leaves in FP32, and names a cast twice where two such nodes share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from perception_models.runtime.errors import BadWeights
from perception_models.runtime.stored import expand

HEAVY = {"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"}
FOLLOWING = {"Add", "Sub", "Mul", "Relu", "LeakyRelu", "Clip", "Gelu", "Erf", "Tanh", "BatchNormalization", "MaxPool"}
MOVING = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Concat", "Gather", "Expand"}
SCATTERING = {"ScatterND", "ScatterElements"}


def to_half(model: bytes, keep_fp32: Sequence[str] = ()) -> bytes:
    """Convert a serialised FP32 model; nodes whose name starts with a prefix in `keep_fp32` stay FP32.

    Raises BadWeights for a graph with sub-graphs (If, Loop), which static models do not have.
    """
    proto = onnx.load_from_string(model)
    expand(proto)
    proto = onnx.shape_inference.infer_shapes(proto)
    converted = _Converter(proto.graph, tuple(keep_fp32)).run()
    del proto.graph.value_info[:]  # the types in there are the old ones
    proto.graph.CopyFrom(converted)
    onnx.checker.check_model(proto)
    serialised: bytes = proto.SerializeToString()
    return serialised


def graph_precision(model: bytes) -> str:
    """ "fp16" if most of the matrix products and convolutions of a serialised model take FP16 inputs, else "fp32"."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    types = _element_types(graph)
    counts = Counter(types.get(node.input[0]) for node in graph.node if node.op_type in HEAVY)
    return "fp16" if counts[TensorProto.FLOAT16] > counts[TensorProto.FLOAT] else "fp32"


def _element_types(graph: GraphProto) -> dict[str, int]:
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        tensor.name: tensor.data_type for tensor in graph.initializer
    }


class _Converter:
    def __init__(self, graph: GraphProto, keep_fp32: tuple[str, ...]) -> None:
        self.graph = graph
        self.keep_fp32 = keep_fp32
        self.floats = {name for name, kind in _element_types(graph).items() if kind == TensorProto.FLOAT}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.constants |= {node.output[0]: _value(node) for node in graph.node if _is_tensor_constant(node)}
        fills = {node.output[0] for node in graph.node if node.op_type == "ConstantOfShape"}
        self.streams = self.floats - fills - self.constants.keys()  # what decides the type of a node that follows
        self.outputs = [output.name for output in graph.output]
        self.half: dict[str, str] = {}  # FP32 tensor -> the tensor that holds it in FP16
        self.live_in_half: set[str] = set()  # tensors that FP16 nodes produce
        self.widened: set[str] = set()  # those among them that exist in FP32, too
        self.nodes: list[NodeProto] = []
        self.initializers = list(graph.initializer)

    def run(self) -> GraphProto:
        for node in self.graph.node:
            if any(attribute.HasField("g") for attribute in node.attribute):
                raise BadWeights(f"node '{node.name}' ({node.op_type}) holds a sub-graph; export a static model")
            converted = NodeProto()
            converted.CopyFrom(node)
            (self._emit_half if self._runs_in_half(node) else self._emit_full)(converted)
        for name in self.outputs:
            self._widen_if_half(name)
        used = {name for node in self.nodes for name in node.input}  # not the FP32 twin of what runs in FP16
        kept = [tensor for tensor in self.initializers if tensor.name in used]
        return helper.make_graph(self.nodes, self.graph.name, self.graph.input, self.graph.output, kept)

    def _runs_in_half(self, node: NodeProto) -> bool:
        if node.name and node.name.startswith(self.keep_fp32):
            return False
        if node.op_type in HEAVY:
            return all(name in self.floats for name in node.output)
        if node.op_type not in FOLLOWING | MOVING | SCATTERING or _accumulates(node):
            return False
        streams = [name for name in node.input if name in self.streams]
        return bool(streams) and all(name in self.live_in_half for name in streams)

    def _emit_half(self, node: NodeProto) -> None:
        node.input[:] = [self._narrow(name) if name in self.floats else name for name in node.input]
        produced = [name for name in node.output if name in self.floats]
        self.live_in_half.update(produced)
        self.half.update((name, f"{name}.half") for name in produced)
        node.output[:] = [self.half.get(name, name) for name in node.output]
        self.nodes.append(node)

    def _emit_full(self, node: NodeProto) -> None:
        for name in node.input:
            self._widen_if_half(name)
        self.nodes.append(node)

    def _narrow(self, name: str) -> str:
        """The FP16 twin of an FP32 tensor, made where it is first needed."""
        if name not in self.half:
            self.half[name] = f"{name}.half"
            if name in self.constants:
                self.initializers.append(_half_tensor(self.constants[name], self.half[name]))
            else:
                self.nodes.append(_cast(name, self.half[name], TensorProto.FLOAT16))
        return self.half[name]

    def _widen_if_half(self, name: str) -> None:
        """Give a tensor that an FP16 node produced its FP32 form, under its old name."""
        if name in self.live_in_half and name not in self.widened:
            self.widened.add(name)
            self.nodes.append(_cast(self.half[name], name, TensorProto.FLOAT))


def _half_tensor(tensor: TensorProto, name: str) -> TensorProto:
    """An FP16 copy; finite values beyond its range become the largest FP16 value, not infinity."""
    values = numpy_helper.to_array(tensor)
    limit = float(np.finfo(np.float16).max)
    clipped = np.where(np.isfinite(values), values.clip(-limit, limit), values)
    return numpy_helper.from_array(clipped.astype(np.float16), name)


def _accumulates(node: NodeProto) -> bool:
    return any(attribute.name == "reduction" and attribute.s != b"none" for attribute in node.attribute)


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)


def _is_tensor_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def _value(node: NodeProto) -> TensorProto:
    value: TensorProto = node.attribute[0].t
    return value
