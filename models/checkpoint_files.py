# SPDX-License-Identifier: Apache-2.0
"""Published checkpoint files: read without running code from them, compared with a network by names and shapes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from perception_models.runtime import BadWeights

N = TypeVar("N", bound=nn.Module)
WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model")
PREFIXES = ("module.", "model.", "detector.")
SHOWN = 4


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name, without wrapper and common prefix. Runs no code from the file.

    Raises BadWeights when the file is missing, damaged, holds more than tensors and plain values, or no tensors.
    """
    content = _load_safely(file)
    for wrapper in WRAPPERS:
        content = content.get(wrapper, content) if isinstance(content, Mapping) else content
    entries = content.items() if isinstance(content, Mapping) else ()
    state = {str(key): value for key, value in entries if isinstance(value, Tensor)}
    if not state:
        raise BadWeights(f"{file} holds no weights: expected tensors by name, plain or under {' or '.join(WRAPPERS)}")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def describe_mismatch(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What keeps `given` from being loaded in place of `expected`; empty if nothing does."""
    misshaped = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    reports = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "of another shape": misshaped,
    }
    return "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in reports.items() if keys)


def filled(network: N, name: str, state: Mapping[str, Tensor], file: Path) -> N:
    """The network called `name` with the tensors of a file, in evaluation mode. Raises BadWeights where they do not
    fit."""
    problems = describe_mismatch(network.state_dict(), state)
    if problems:
        raise BadWeights(f"{file} does not fit {name}: {problems}")
    network.load_state_dict(state)
    return network.eval()


def fitting(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> int:
    """How many entries of `expected` are in `given` with the same shape."""
    return sum(key in given and given[key].shape == value.shape for key, value in expected.items())


def best_fit(names: Iterable[str], score: Callable[[str], float], kind: str = "networks") -> str:
    """The one of `names` with the highest score; raises BadWeights where none has any."""
    fits = {name: score(name) for name in names}
    best = max(fits, key=lambda name: fits[name])
    if fits[best] == 0:
        raise BadWeights(f"these weights belong to none of the {kind} {', '.join(fits)}")
    return best


def empty_state(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Names and shapes of a network's state, without the memory and the time that its weights would take."""
    with torch.device("meta"):
        return dict(build().state_dict())


def _load_safely(file: Path) -> Any:
    if not file.is_file():
        raise BadWeights(f"{file} does not exist")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadWeights(
            f"{file} is no checkpoint, or holds more than tensors and plain values, which is not loaded because it "
            f"could run code; where you trust it, save its state_dict alone and import that ({_first_line(error)})"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise BadWeights(f"{file} is damaged or no torch checkpoint ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")
