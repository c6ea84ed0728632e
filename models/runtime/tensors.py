# SPDX-License-Identifier: Apache-2.0
"""Names, shapes and types of a model's inputs and outputs, and the check of what a caller hands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. An axis is a length, or the name of a symbolic axis such as "pillars"."""

    name: str
    shape: tuple[int | str, ...]
    dtype: np.dtype[Any]

    def shape_at(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with every symbolic axis set to its length in `sizes`."""
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.shape)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.shape))}) {self.dtype}"


def check_inputs(
    specs: Mapping[str, TensorSpec], arrays: Mapping[str, object], capacity: Mapping[str, int], padded: bool
) -> None:
    """Raise ValueError naming the first input that does not fit its spec.

    A symbolic axis has one length in all inputs of a call: at most its capacity, or exactly that where `padded`.
    """
    if arrays.keys() != specs.keys():
        expected = ", ".join(map(str, specs.values()))
        raise ValueError(f"inputs {sorted(arrays)} were given; expected are {expected}")
    sizes = dict(capacity) if padded else {}
    for name, spec in specs.items():
        _check_input(spec, arrays[name], sizes, capacity)


def _check_input(spec: TensorSpec, array: object, sizes: dict[str, int], capacity: Mapping[str, int]) -> None:
    if not isinstance(array, np.ndarray):
        raise ValueError(f"input '{spec.name}' is a {type(array).__name__}; expected a numpy array {spec}")
    if array.dtype != spec.dtype:
        raise ValueError(f"input '{spec.name}' has dtype {array.dtype}; expected {spec.dtype}")
    if array.ndim != len(spec.shape):
        raise ValueError(f"input '{spec.name}' has shape {array.shape}; expected {spec}")
    for axis, length in zip(spec.shape, array.shape, strict=True):
        expected = sizes.setdefault(axis, length) if isinstance(axis, str) else axis
        if length != expected:
            raise ValueError(f"input '{spec.name}' has shape {array.shape}; expected {spec} with {axis} = {expected}")
        if isinstance(axis, str) and length > capacity[axis]:
            raise ValueError(f"input '{spec.name}' has {length} {axis}; the model's capacity is {capacity[axis]}")
