# SPDX-License-Identifier: Apache-2.0
"""Loads published checkpoint files of CUT3R: names are matched, weights are never altered."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from perception_models.checkpoint_files import best_fit, empty_state, filled, fitting, read_state
from perception_models.reconstruction.export import export
from perception_models.reconstruction.network import ReconstructionNetwork
from perception_models.reconstruction.settings import OFFICIAL

FRAMES = 3  # of the check after the export: at full size a frame takes a minute on a CPU
HEADS = "downstream_head."


def import_checkpoint(file: Path, name: str) -> ReconstructionNetwork:
    """The network `name` (a key of OFFICIAL) with the weights of a checkpoint file, in evaluation mode.

    Raises BadWeights when the file is no checkpoint, or when keys or shapes do not fit; ValueError for an unknown name.
    """
    if name not in OFFICIAL:
        raise ValueError(f"unknown network {name!r}; there are {', '.join(OFFICIAL)}")
    return _filled(name, read_weights(file), file)


def import_weights(file: Path, out_dir: Path) -> Path:
    """Recognise, load and export a checkpoint file -> the folder out_dir/<name> with the engines.

    Raises BadWeights as `import_checkpoint`.
    """
    state = read_weights(file)
    name = recognise(state)
    return export(_filled(name, state, file), out_dir / name, variant=name, frames=FRAMES)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name; raises BadWeights as `read_state`.

    The released files hold the arguments of their training, too. Of all classes only theirs is let in, a plain bag of
    values; what it holds is not used.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = read_state(file)
    if not any(key.startswith("dec_blocks_state.") for key in state):  # it began as a copy
        copies = {key.replace("dec_blocks.", "dec_blocks_state.", 1): value for key, value in state.items()}
        state |= {key: value for key, value in copies.items() if key.startswith("dec_blocks_state.")}
    return state


def recognise(state: Mapping[str, Tensor]) -> str:
    """The network whose heads the most entries fit; all else is the same in all."""
    return best_fit(OFFICIAL, lambda name: fitting(_heads_state(name), state))


def _filled(name: str, state: Mapping[str, Tensor], file: Path) -> ReconstructionNetwork:
    return filled(ReconstructionNetwork(OFFICIAL[name]), name, state, file)


def _heads_state(name: str) -> Mapping[str, Tensor]:
    state = empty_state(lambda: ReconstructionNetwork(OFFICIAL[name]))
    return {key: value for key, value in state.items() if key.startswith(HEADS)}
