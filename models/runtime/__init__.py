# SPDX-License-Identifier: Apache-2.0
"""Runs models: ONNX Runtime and TensorRT behind one interface. Nothing in here imports torch."""

from .engine import Engine, EngineInfo
from .errors import BadWeights, UnsupportedBackend
from .facts import ModelFacts, load_facts
from .load import load_engine
from .tensors import TensorSpec

__all__ = [
    "BadWeights",
    "Engine",
    "EngineInfo",
    "ModelFacts",
    "TensorSpec",
    "UnsupportedBackend",
    "load_engine",
    "load_facts",
]
