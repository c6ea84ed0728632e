# SPDX-License-Identifier: Apache-2.0
"""Model facts: what model.yaml says about the model.onnx beside it, verified by checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml  # type: ignore[import-untyped,unused-ignore]

from perception_models.runtime.errors import BadWeights
from perception_models.runtime.tensors import TensorSpec

REQUIRED = ("task", "variant", "inputs", "outputs", "sha256", "opset")


@dataclass(frozen=True)
class ModelFacts:
    """The parsed model.yaml of one weights folder."""

    folder: Path
    task: str
    variant: str
    sha256: str
    opset: int
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    capacity: Mapping[str, int] = field(default_factory=dict)  # longest length of each symbolic axis
    classes: tuple[str, ...] = ()
    precision_bound: Mapping[str, float] = field(default_factory=dict)  # largest absolute error, by output
    keep_fp32: tuple[str, ...] = ()  # prefixes of ONNX node names that reduced precision leaves alone
    settings: Mapping[str, Any] = field(default_factory=dict)  # free facts for the pipeline
    figures: Mapping[str, Any] = field(default_factory=dict)  # measured figures

    @property
    def name(self) -> str:
        """Task and variant, as "detection/compact"."""
        return f"{self.task}/{self.variant}"

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Inputs and outputs together."""
        return {**self.inputs, **self.outputs}

    def read_onnx(self) -> bytes:
        """The bytes of model.onnx; BadWeights if they are missing or not those that model.yaml describes."""
        path = self.folder / "model.onnx"
        if not path.is_file():
            raise BadWeights(f"{path} is missing; restore it from the repository or export {self.name} again")
        model = path.read_bytes()
        actual = hashlib.sha256(model).hexdigest()
        if actual != self.sha256:
            raise BadWeights(
                f"{path} is damaged or was replaced: its sha256 is {actual[:12]}..., model.yaml says "
                f"{self.sha256[:12]}...; restore both files or export {self.name} again"
            )
        return model


def load_facts(weights_dir: Path) -> ModelFacts:
    """Read `weights_dir`/model.yaml and verify the checksum of model.onnx.

    Raises BadWeights, saying what is wrong, when a file is missing, unreadable, incomplete or damaged.
    """
    facts = _parse(Path(weights_dir))
    facts.read_onnx()
    return facts


def _parse(folder: Path) -> ModelFacts:
    document = _read_yaml(folder / "model.yaml")
    missing = [key for key in REQUIRED if key not in document]
    if missing:
        raise BadWeights(f"{folder / 'model.yaml'} lacks {', '.join(missing)}")
    unknown = document.keys() - ModelFacts.__dataclass_fields__.keys()
    if unknown:
        raise BadWeights(f"{folder / 'model.yaml'} has unknown keys {sorted(unknown)}; put free facts under `settings`")
    try:
        facts = ModelFacts(folder=folder, **_typed(document))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadWeights(f"{folder / 'model.yaml'} has an entry of the wrong form: {error!r}") from error
    _check_capacity(facts)
    return facts


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        siblings = sorted(found.parent.name for found in path.parent.parent.glob("*/model.yaml"))
        raise BadWeights(f"{path} is missing; variants here: {', '.join(siblings) or 'none'}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadWeights(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise BadWeights(f"{path} must be a mapping of facts, not a {type(document).__name__}")
    return document


def _typed(document: Mapping[str, Any]) -> dict[str, Any]:
    outputs = _specs(document["outputs"])
    return {
        **document,
        "inputs": _specs(document["inputs"]),
        "outputs": outputs,
        "capacity": {axis: int(length) for axis, length in document.get("capacity", {}).items()},
        "classes": tuple(document.get("classes", ())),
        "precision_bound": _bounds(document.get("precision_bound", {}), outputs),
        "keep_fp32": tuple(document.get("keep_fp32", ())),
    }


def _specs(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(name, tuple(entry["shape"]), np.dtype(entry["dtype"])) for name, entry in entries.items()}


def _bounds(bound: float | Mapping[str, float], outputs: Mapping[str, TensorSpec]) -> dict[str, float]:
    """One number bounds every output; a mapping must name all of them, or it bounds nothing it leaves out."""
    if isinstance(bound, (int, float)):
        return {name: float(bound) for name in outputs}
    if bound and bound.keys() != outputs.keys():
        raise ValueError(f"precision_bound names {sorted(bound)}, the outputs are {sorted(outputs)}")
    return {name: float(limit) for name, limit in bound.items()}


def _check_capacity(facts: ModelFacts) -> None:
    for spec in facts.tensors.values():
        for axis in spec.shape:
            if isinstance(axis, str) and axis not in facts.capacity:
                raise BadWeights(f"{facts.folder / 'model.yaml'}: axis '{axis}' of '{spec.name}' has no `capacity`")
