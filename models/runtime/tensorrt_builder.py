# SPDX-License-Identifier: Apache-2.0
"""ONNX -> serialised TensorRT engine: strongly typed, static shapes, for this GPU or a named compute capability."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from perception_models.runtime.errors import BadWeights, UnsupportedBackend

LIBRARIES = ("tensorrt", "tensorrt_rtx")  # the full library first: it tunes its kernels on the device
OLDEST = 10  # major version: strongly typed networks and int64 indices
WORKSPACE_BYTES = 1 << 30  # a Jetson shares its memory with everything else
HERE = "CURRENT"  # target: the GPU of this machine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A serialised engine. `precision` is read back from the network that the parser made."""

    content: bytes
    precision: str
    seconds: float


def import_tensorrt() -> ModuleType:
    """TensorRT, or TensorRT-RTX where only that is installed; UnsupportedBackend where neither is."""
    for name in LIBRARIES:
        try:
            library = importlib.import_module(name)
        except ImportError as error:
            log.debug("%s: %s", name, error)
            continue
        if name == "tensorrt" and int(library.__version__.split(".")[0]) < OLDEST:
            raise UnsupportedBackend(f"TensorRT {library.__version__} is too old; {OLDEST}.0 (JetPack 6.1) is needed")
        return library
    raise UnsupportedBackend(
        "neither `tensorrt` nor `tensorrt_rtx` can be imported; on a Jetson install JetPack's python3-libnvinfer, "
        "elsewhere `pip install tensorrt-rtx-cu12`"
    )


def library_version(trt: ModuleType) -> str:
    """Library and version, as "tensorrt_rtx 1.7.1.116"."""
    return f"{trt.__name__} {trt.__version__}"


def make_logger(trt: ModuleType) -> Any:
    """A TensorRT logger that writes to Python's logging and keeps the errors, to be quoted in exceptions."""

    class Logger(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            log.debug("%s: %s", severity, message)

    return Logger()


def build_plan(trt: ModuleType, model: bytes, shapes: Mapping[str, tuple[int, ...]], target: str = HERE) -> Plan:
    """Build a serialised ONNX model with the given static input shapes.

    `target` is a compute capability such as "SM86" (TensorRT-RTX builds for it without a GPU) or "CURRENT".
    Raises BadWeights when TensorRT cannot parse or build the graph, UnsupportedBackend for an unknown target.
    """
    start = time.perf_counter()
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        problems = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise BadWeights(f"TensorRT cannot parse the model: {problems}")
    for index in range(network.num_inputs):
        network.get_input(index).shape = shapes[network.get_input(index).name]
    serialised = builder.build_serialized_network(network, _configuration(trt, builder, target))
    if serialised is None:
        raise BadWeights(f"TensorRT cannot build the model for {target}: {'; '.join(logger.errors)}")
    return Plan(bytes(serialised), _precision(trt, network), time.perf_counter() - start)


def targets(trt: ModuleType) -> list[str]:
    """The compute capabilities that this library builds for without such a GPU."""
    known = getattr(trt, "ComputeCapability", None)
    return [name for name in known.__members__ if name.startswith("SM")] if known else []


def _configuration(trt: ModuleType, builder: Any, target: str) -> Any:
    configuration = builder.create_builder_config()
    configuration.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    configuration.clear_flag(trt.BuilderFlag.TF32)  # on by default: "fp32" would quietly have a 10-bit mantissa
    if target != HERE:
        if target not in targets(trt):
            raise UnsupportedBackend(unknown_target(trt, target))
        configuration.num_compute_capabilities = 1
        configuration.set_compute_capability(trt.ComputeCapability.__members__[target], 0)
    return configuration


def unknown_target(trt: ModuleType, target: str) -> str:
    """Why `target` cannot be built for here, and where it can."""
    known = ", ".join(targets(trt)) or "no other GPU than its own"
    return (
        f"{library_version(trt)} cannot build for {target} (it builds for {known}); run `perception build-engines` on "
        f"the {target} machine itself, which builds with its own TensorRT (a Jetson Orin is SM87 and has JetPack's)"
    )


def _precision(trt: ModuleType, network: Any) -> str:
    """ "fp16" if most matrix products and convolutions take FP16 inputs, else "fp32"."""
    heavy = {
        trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.EINSUM,
    }  # fmt: skip
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = [layer.get_input(0).dtype for layer in layers if layer.type in heavy]
    return "fp16" if kinds.count(trt.float16) > kinds.count(trt.float32) else "fp32"
