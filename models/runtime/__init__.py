# SPDX-License-Identifier: Apache-2.0
"""Runs models: ONNX Runtime and TensorRT behind one interface. Nothing in here imports torch."""

from perception_models.runtime.engine import Engine, EngineInfo
from perception_models.runtime.errors import BadWeights, UnsupportedBackend
from perception_models.runtime.facts import ModelFacts, load_facts
from perception_models.runtime.load import load_engine
from perception_models.runtime.tensors import TensorSpec

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
