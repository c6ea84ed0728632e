# SPDX-License-Identifier: Apache-2.0
"""What fixes a detector's input and output: shared by training, export and run time, and kept in model.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from perception_models.classes import CLASSES
from perception_models.geometry.pillars import PillarGrid


@dataclass(frozen=True)
class DetectionSettings:
    """Facts of one trained detector; lengths in metres, heights in the sensor's frame."""

    grid: PillarGrid = field(default_factory=PillarGrid)
    classes: tuple[str, ...] = CLASSES
    divisions: int = 2  # sub-cells along a pillar's side in the occupancy code
    slice_low: float = -3.2
    slice_step: float = 0.3
    slices: int = 16
    points_per_pillar: int = 16
    structure_height: float = 0.3  # pillars that rise less above the local ground get no attention
    ground_window: int = 7
    group: int = 64
    window: int = 12
    stride: int = 2  # of the output map, in pillars
    heat_power: tuple[float, ...] = (0.5, 0.5, 1.0)  # score = heat ** heat_power * iou ** iou_power, by class
    iou_power: tuple[float, ...] = (0.5, 0.5, 0.0)
    nms_iou: tuple[float, ...] = (0.2, 0.2, 0.2)
    official: str = ""  # a published detector that brings input tensors of its own, see official_preprocess.OFFICIAL
    max_pillars: int = 22528
    max_tokens: int = 8192

    @property
    def occupancy_bits(self) -> int:
        """Length of a pillar's occupancy code."""
        return self.divisions**2 * self.slices

    def to_dict(self) -> dict[str, Any]:
        """Plain values for model.yaml."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> DetectionSettings:
        """Inverse of `to_dict`; unknown keys are a ValueError, because they mean other software trained the model."""
        unknown = set(values) - {f.name for f in fields(DetectionSettings)}
        if unknown:
            raise ValueError(f"unknown detection settings {sorted(unknown)}; update perception_nodes to use this model")
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        known["grid"] = PillarGrid(**values.get("grid", {}))
        return DetectionSettings(**known)
