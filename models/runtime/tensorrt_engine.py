# SPDX-License-Identifier: Apache-2.0
"""Runs a serialised TensorRT engine with static shapes. Not measured: written without a GPU at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from perception_models.runtime.cuda import CudaDevice
from perception_models.runtime.engine import Engine, EngineInfo
from perception_models.runtime.errors import BadEngine
from perception_models.runtime.facts import ModelFacts
from perception_models.runtime.tensorrt_builder import make_logger
from perception_models.runtime.tensors import Arrays


class TensorRTEngine(Engine):
    """A model on the GPU; the caller pads symbolic axes to their capacity."""

    pads_to_capacity = True

    def __init__(self, facts: ModelFacts, info: EngineInfo, trt: ModuleType, device: CudaDevice, plan: bytes) -> None:
        """Load `plan` on `device`, which the engine owns from then on.

        Raises BadEngine when TensorRT refuses the plan or it is not the engine of `facts`.
        """
        super().__init__(facts, info)
        self._device = device
        device.activate()
        self._logger = make_logger(trt)  # TensorRT keeps pointers to logger and runtime, so they must live on
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BadEngine(f"TensorRT refuses it: {'; '.join(self._logger.errors)}")
        self._shapes = {name: spec.shape_at(facts.capacity) for name, spec in facts.tensors.items()}
        _check_tensors(trt, self._engine, facts, self._shapes)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RuntimeError(f"TensorRT cannot make a context for {facts.name}: {'; '.join(self._logger.errors)}")
        self._buffers = {
            name: device.allocate(math.prod(shape) * facts.tensors[name].dtype.itemsize)
            for name, shape in self._shapes.items()
        }
        for name, address in self._buffers.items():
            self._context.set_tensor_address(name, address)

    def _run(self, inputs: Arrays) -> Arrays:
        self._device.activate()
        held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}  # alive until the copies are done
        for name, array in held.items():
            self._device.upload(self._buffers[name], array)
        if not self._context.execute_async_v3(self._device.stream):
            raise RuntimeError(f"TensorRT failed to run {self.facts.name}: {'; '.join(self._logger.errors)}")
        outputs = {name: np.empty(self._shapes[name], spec.dtype) for name, spec in self.facts.outputs.items()}
        for name, array in outputs.items():
            self._device.download(array, self._buffers[name])
        self._device.synchronize()
        return outputs

    def _free(self) -> None:
        self._device.activate()
        self._context = self._engine = self._runtime = None  # in this order: each lives in the next
        self._device.close()


def _check_tensors(trt: ModuleType, engine: Any, facts: ModelFacts, shapes: Mapping[str, tuple[int, ...]]) -> None:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = {
        name: (tuple(engine.get_tensor_shape(name)), np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
        for name in names
    }
    expected = {name: (shape, facts.tensors[name].dtype) for name, shape in shapes.items()}
    if found != expected:
        raise BadEngine(f"its tensors are {found}, expected are {expected}")
