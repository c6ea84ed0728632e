# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the backend that is there on every machine, and the FP32 reference of the other."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime  # type: ignore[import-untyped,unused-ignore]
from onnxruntime.capi.onnxruntime_pybind11_state import (  # type: ignore[import-untyped,unused-ignore]
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,
)

from perception_models.runtime.engine import Engine, EngineInfo
from perception_models.runtime.errors import BadWeights
from perception_models.runtime.facts import ModelFacts
from perception_models.runtime.half import graph_precision
from perception_models.runtime.tensors import Arrays, TensorSpec

PROVIDER = "CPUExecutionProvider"
MODEL_ERRORS = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented)
DTYPES = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}


class OnnxRuntimeEngine(Engine):
    """A model in an ONNX Runtime session; symbolic axes take any length up to their capacity."""

    pads_to_capacity = False

    def __init__(self, facts: ModelFacts, threads: int | None = None, model: bytes | None = None) -> None:
        """Load `model` (default: the verified model.onnx of `facts`) with `threads` compute threads.

        Raises BadWeights when ONNX Runtime refuses the model or its tensors are not those in model.yaml.
        """
        start = time.perf_counter()
        content = facts.read_onnx() if model is None else model
        try:
            self._session = onnxruntime.InferenceSession(content, _options(facts, threads), providers=[PROVIDER])
        except MODEL_ERRORS as error:
            raise BadWeights(f"ONNX Runtime cannot load {facts.name}: {error}") from error
        _check_tensors(facts.name, facts.inputs, self._session.get_inputs())
        _check_tensors(facts.name, facts.outputs, self._session.get_outputs())
        seconds = time.perf_counter() - start
        provider = self._session.get_providers()[0]
        super().__init__(facts, EngineInfo("onnxruntime", graph_precision(content), provider, seconds, "none"))

    def _run(self, inputs: Arrays) -> Arrays:
        names = list(self.facts.outputs)
        return dict(zip(names, self._session.run(names, inputs), strict=True))

    def _free(self) -> None:
        del self._session


def default_threads() -> int:
    """Half of the cores that this process may use, but two where there are two: the rest is for the other nodes."""
    cores = len(os.sched_getaffinity(0))
    return min(cores, max(2, cores // 2))


def _options(facts: ModelFacts, threads: int | None) -> onnxruntime.SessionOptions:
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, or None for {default_threads()}; got {threads}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    # Waking a sleeping thread for each operator costs a seventh of a detection's time; spinning on after the last one
    # would burn a core in an idle node.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # A memory plan is kept for each input shape: with symbolic axes that is memory without end and without gain.
    options.enable_mem_pattern = not facts.capacity
    return options


def _check_tensors(model: str, specs: Mapping[str, TensorSpec], tensors: Sequence[onnxruntime.NodeArg]) -> None:
    found = {tensor.name: tensor for tensor in tensors}
    if found.keys() != specs.keys():
        raise BadWeights(f"{model}: model.yaml names {sorted(specs)}, model.onnx has {sorted(found)}")
    for name, spec in specs.items():
        if not _fits(spec, found[name]):
            raise BadWeights(f"{model}: model.yaml says {spec}, model.onnx has {found[name]}")


def _fits(spec: TensorSpec, tensor: onnxruntime.NodeArg) -> bool:
    if DTYPES.get(tensor.type) != spec.dtype or len(tensor.shape) != len(spec.shape):
        return False
    return all(
        a == b for a, b in zip(spec.shape, tensor.shape, strict=True) if isinstance(a, int) and isinstance(b, int)
    )
