# SPDX-License-Identifier: Apache-2.0
"""Writes model.yaml from a model.onnx, so that names, shapes, types and checksum are never typed by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import yaml  # type: ignore[import-untyped,unused-ignore]

from perception_models.runtime.facts import ModelFacts, load_facts


def describe_model(folder: Path, task: str, variant: str, **facts: Any) -> ModelFacts:
    """Write `folder`/model.yaml for the model.onnx in it and return it as read back.

    `facts` are further entries: capacity (needed for symbolic axes), classes, precision_bound, keep_fp32, settings,
    figures. Tuples and numpy values must be given as plain lists and numbers.
    """
    content = (folder / "model.onnx").read_bytes()
    model = onnx.load_from_string(content)
    document = {
        "task": task,
        "variant": variant,
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset": next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")),
        "inputs": _describe(model.graph.input),
        "outputs": _describe(model.graph.output),
        **facts,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120))
    return load_facts(folder)


def _describe(values: Iterable[onnx.ValueInfoProto]) -> dict[str, dict[str, Any]]:
    return {value.name: _describe_tensor(value.type.tensor_type) for value in values}


def _describe_tensor(tensor: onnx.TypeProto.Tensor) -> dict[str, Any]:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return {"shape": [axis.dim_param or axis.dim_value for axis in tensor.shape.dim], "dtype": str(dtype)}
