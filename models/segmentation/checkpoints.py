# SPDX-License-Identifier: Apache-2.0
"""Loads published checkpoint files of SAM: names are matched, weights are never altered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from perception_models.checkpoint_files import best_fit, empty_state, filled, fitting, read_state
from perception_models.segmentation.sam import Sam
from perception_models.segmentation.sam_export import export_sam
from perception_models.segmentation.sam_settings import PUBLISHED


def import_checkpoint(file: Path, name: str) -> Sam:
    """The network `name` (a key of PUBLISHED) with the weights of a checkpoint file, in evaluation mode.

    Raises BadWeights when the file is no checkpoint, or when keys or shapes do not fit; ValueError for an unknown name.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown network {name!r}; there are {', '.join(PUBLISHED)}")
    return _filled(name, read_state(file), file)


def import_weights(file: Path, out_dir: Path) -> Path:
    """Recognise, load and export a checkpoint file -> the folder out_dir/<name> with the engines encoder and decoder.

    Raises BadWeights as `import_checkpoint`.
    """
    state = read_state(file)
    name = recognise(state)
    return export_sam(_filled(name, state, file), name, out_dir / name)


def recognise(state: Mapping[str, Tensor]) -> str:
    """The network whose image encoder the most entries fit; prompts and decoder are the same in all."""
    return best_fit(PUBLISHED, lambda name: fitting(_encoder_state(name), state))


def _filled(name: str, state: Mapping[str, Tensor], file: Path) -> Sam:
    return filled(Sam(PUBLISHED[name]), name, state, file)


def _encoder_state(name: str) -> Mapping[str, Tensor]:
    state = empty_state(lambda: Sam(PUBLISHED[name]))
    return {key: value for key, value in state.items() if key.startswith("image_encoder.")}
