# SPDX-License-Identifier: Apache-2.0
"""Chooses the backend and loads the engine."""

from __future__ import annotations

import logging
from pathlib import Path

from perception_models.runtime.cache import EngineCache
from perception_models.runtime.engine import Engine
from perception_models.runtime.errors import UnsupportedBackend
from perception_models.runtime.facts import load_facts
from perception_models.runtime.onnxruntime_backend import OnnxRuntimeEngine
from perception_models.runtime.precision import ladder
from perception_models.runtime.tensorrt_backend import load_tensorrt

BACKENDS = ("auto", "onnxruntime", "tensorrt")
log = logging.getLogger(__name__)


def load_engine(
    weights_dir: Path,
    backend: str = "auto",
    precision: str = "fp16",
    threads: int | None = None,
    cache_dir: Path | None = None,
) -> Engine:
    """Load the model in `weights_dir` (model.onnx and model.yaml).

    backend: "auto" (TensorRT where GPU and library are there, else ONNX Runtime), "onnxruntime" or "tensorrt".
    precision: the lowest allowed, "fp16" or "fp32". `engine.info.precision` tells which it became: TensorRT runs in
        FP16 only what the precision gate accepts, ONNX Runtime on the CPU always runs the FP32 graph.
    threads: compute threads of ONNX Runtime; None takes half of the cores, at least two where there are two.
    cache_dir: where TensorRT engines are kept; None is `$PERCEPTION_CACHE/engines` or the user's cache folder.

    Raises BadWeights (folder incomplete or damaged, model cannot be built) and UnsupportedBackend (asked for what this
    machine does not have, or for an unknown backend or precision).
    """
    if backend not in BACKENDS:
        raise UnsupportedBackend(f"backend '{backend}' is unknown; known are {', '.join(BACKENDS)}")
    ladder(precision)  # an unknown precision is an error on every machine, not only where there is a GPU
    facts = load_facts(Path(weights_dir))
    if backend != "onnxruntime":
        try:
            return load_tensorrt(facts, precision, EngineCache(cache_dir))
        except UnsupportedBackend as error:
            if backend == "tensorrt":
                raise
            log.info("%s runs on ONNX Runtime: %s", facts.name, error)
    return OnnxRuntimeEngine(facts, threads)
