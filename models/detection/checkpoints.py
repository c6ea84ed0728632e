# SPDX-License-Identifier: Apache-2.0
"""Loads the published detectors' checkpoint files: names are matched, weights are never altered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from perception_models.checkpoint_files import best_fit, empty_state, filled, fitting, read_state
from perception_models.detection.official import OfficialDetector, build_official
from perception_models.detection.official_export import export_official
from perception_models.detection.official_preprocess import OFFICIAL
from perception_models.geometry.pillars import Floats
from perception_models.simulation.drive import simulate_drive

# Entries that are no weights of the network built here: a training counter, and the nuScenes model's TransFusion head.
NOT_BUILT: dict[str, tuple[str, ...]] = dict.fromkeys(OFFICIAL, ("global_step",))
NOT_BUILT["dsvt_pillar_nuscenes"] += ("dense_head.",)
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


def recognise(state: Mapping[str, Tensor]) -> str:
    """The official detector whose names and shapes the most entries fit."""
    return best_fit(OFFICIAL, lambda name: fitting(empty_state(lambda: build_official(name)), state), "detectors")


def _example_scan() -> Floats:
    scan = next(simulate_drive(seed=0, seconds=0.1)).points.copy()
    scan[:, 2] += SENSOR_HEIGHT
    return scan


def _filled(name: str, state: Mapping[str, Tensor], file: Path) -> OfficialDetector:
    weights = {key: value for key, value in state.items() if not key.startswith(NOT_BUILT[name])}
    return filled(build_official(name), name, weights, file)
