# SPDX-License-Identifier: Apache-2.0
"""Loads checkpoint files of PL2Map and SuperPoint: names are matched, weights are never altered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from perception_models.checkpoint_files import best_fit, empty_state, filled, fitting, read_state
from perception_models.relocalization.pl2map import Pl2Map
from perception_models.relocalization.pl2map_export import export_pl2map, export_superpoint
from perception_models.relocalization.superpoint_network import SuperPoint


@dataclass(frozen=True)
class Layout:
    """A published network: how to build it, and how to write it for the robot."""

    build: Callable[[], nn.Module]
    export: Callable[[Any, Path], Path]


LAYOUTS = {"pl2map": Layout(Pl2Map, export_pl2map), "superpoint": Layout(SuperPoint, export_superpoint)}


def import_checkpoint(file: Path, name: str) -> nn.Module:
    """The network `name` (a key of LAYOUTS) with the weights of a checkpoint file, in evaluation mode.

    Raises BadWeights when the file is no checkpoint, or when keys or shapes do not fit; ValueError for an unknown name.
    """
    if name not in LAYOUTS:
        raise ValueError(f"unknown network {name!r}; there are {', '.join(LAYOUTS)}")
    return _filled(name, read_state(file), file)


def import_weights(file: Path, out_dir: Path) -> Path:
    """Recognise, load and export a checkpoint file -> the folder out_dir/<name> with model.onnx and model.yaml.

    Raises BadWeights as `import_checkpoint`.
    """
    state = read_state(file)
    name = recognise(state)
    return LAYOUTS[name].export(_filled(name, state, file), out_dir / name)


def recognise(state: Mapping[str, Tensor]) -> str:
    """The network whose names and shapes the most entries fit."""
    return best_fit(LAYOUTS, lambda name: fitting(empty_state(LAYOUTS[name].build), state))


def _filled(name: str, state: Mapping[str, Tensor], file: Path) -> nn.Module:
    return filled(LAYOUTS[name].build(), name, state, file)
