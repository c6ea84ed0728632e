# SPDX-License-Identifier: Apache-2.0
"""Loads published checkpoint files of registration networks: names are matched, weights are never altered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from perception_models.checkpoint_files import best_fit, empty_state, filled, fitting, read_state
from perception_models.registration.geotransformer import GeoTransformer
from perception_models.registration.geotransformer_settings import PUBLISHED
from perception_models.registration.official_export import export_geotransformer


def import_checkpoint(file: Path, name: str) -> GeoTransformer:
    """The network `name` (a key of PUBLISHED) with the weights of a checkpoint file, in evaluation mode.

    Raises BadWeights when the file is no checkpoint, or when keys or shapes do not fit; ValueError for an unknown name.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown network {name!r}; there are {', '.join(PUBLISHED)}")
    return _filled(name, read_state(file), file)


def import_weights(file: Path, out_dir: Path) -> Path:
    """Recognise, load and export a checkpoint file -> the folder out_dir/<name> with model.onnx and model.yaml.

    Raises BadWeights as `import_checkpoint`.
    """
    state = read_state(file)
    name = recognise(state)
    return export_geotransformer(_filled(name, state, file), name, out_dir / name)


def recognise(state: Mapping[str, Tensor]) -> str:
    """The network whose names and shapes the largest share of the entries fits."""
    return best_fit(PUBLISHED, lambda name: _share(empty_state(lambda: GeoTransformer(PUBLISHED[name])), state))


def _share(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> float:
    common = fitting(expected, given)
    return common / (len(expected) + len(given) - common)


def _filled(name: str, state: Mapping[str, Tensor], file: Path) -> GeoTransformer:
    return filled(GeoTransformer(PUBLISHED[name]), name, state, file)
