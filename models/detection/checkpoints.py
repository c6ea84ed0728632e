# SPDX-License-Identifier: Apache-2.0
"""Loads the published detectors' checkpoint files: names are matched, weights are never altered."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from perception_models.detection.official import OfficialDetector, build_official
from perception_models.detection.official_export import export_official
from perception_models.detection.official_preprocess import OFFICIAL
from perception_models.geometry.pillars import Floats
from perception_models.runtime import BadWeights
from perception_models.simulation.drive import simulate_drive

WRAPPERS = ("model_state", "state_dict", "model")
PREFIXES = ("module.", "model.", "detector.")
# Entries that are no weights of the network built here: a training counter, and the nuScenes model's TransFusion head.
NOT_BUILT: dict[str, tuple[str, ...]] = dict.fromkeys(OFFICIAL, ("global_step",))
NOT_BUILT["dsvt_pillar_nuscenes"] += ("dense_head.",)
SHOWN = 4
# Lifts the simulated scan so that the ground is near z = 0, as in the training data of the models with a head.
SENSOR_HEIGHT = 1.8


def import_checkpoint(file: Path, name: str) -> OfficialDetector:
    """The official detector `name` (a key of `OFFICIAL`) with the weights of a checkpoint file, in evaluation mode.

    Raises BadWeights when the file is no checkpoint, or when keys or shapes do not fit; ValueError for an unknown name.
    """
    return _filled(name, read_state(file), file)


def import_weights(file: Path, out_dir: Path) -> Path:
    """Recognise, load and export a checkpoint file -> the folder out_dir/<name> with model.onnx and model.yaml.

    Raises BadWeights as `import_checkpoint`, ValueError for a model whose head is not supported.
    """
    state = read_state(file)
    name = recognise(state)
    folder = out_dir / name
    export_official(_filled(name, state, file), name, folder, _example_scan())
    return folder


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name, without wrapper and common prefix. Runs no code from the file."""
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


def recognise(state: Mapping[str, Tensor]) -> str:
    """The official detector whose names and shapes the most entries fit."""
    fits = {name: _fitting(name, state) for name in OFFICIAL}
    best = max(fits, key=lambda name: fits[name])
    if fits[best] == 0:
        raise BadWeights(f"these weights belong to none of the detectors {', '.join(OFFICIAL)}")
    return best


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


def _example_scan() -> Floats:
    scan = next(simulate_drive(seed=0, seconds=0.1)).points.copy()
    scan[:, 2] += SENSOR_HEIGHT
    return scan


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _filled(name: str, state: Mapping[str, Tensor], file: Path) -> OfficialDetector:
    detector = build_official(name)
    weights = {key: value for key, value in state.items() if not key.startswith(NOT_BUILT[name])}
    problems = describe_mismatch(detector.state_dict(), weights)
    if problems:
        raise BadWeights(f"{file} does not fit {name}: {problems}")
    detector.load_state_dict(weights)
    return detector.eval()


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


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")


def _fitting(name: str, state: Mapping[str, Tensor]) -> int:
    with torch.device("meta"):
        expected = cast(dict[str, Tensor], build_official(name).state_dict())
    return sum(key in state and state[key].shape == value.shape for key, value in expected.items())
