# SPDX-License-Identifier: Apache-2.0
"""What fixes a detector's input and output: shared by training, export and run time, and kept in model.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from perception_models.geometry.pillars import PillarGrid

CLASSES = ("vehicle", "pedestrian", "cyclist")


@dataclass(frozen=True)
class DetectionSettings:
    """Facts of one trained detector; lengths in metres, heights in the sensor's frame."""

    grid: PillarGrid = field(default_factory=PillarGrid)
    classes: tuple[str, ...] = CLASSES
    divisions: int = 2  # sub-cells along a pillar's side in the occupancy code
    slice_low: float = -3.2
    slice_step: float = 0.3
    slices: int = 16
    points_per_pillar: int = 24
    structure_height: float = 0.3  # pillars that rise less above the local ground get no attention
    ground_window: int = 7
    group: int = 64
    window: int = 12
    stride: int = 2  # of the output map, in pillars
    max_pillars: int = 22528
    max_tokens: int = 8192

    @property
    def occupancy_bits(self) -> int:
        """Length of a pillar's occupancy code."""
        return self.divisions**2 * self.slices

    def to_dict(self) -> dict[str, Any]:
        """Plain values for model.yaml."""
        values = asdict(self)
        values["classes"] = list(self.classes)
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> DetectionSettings:
        """Inverse of `to_dict`; unknown keys are a ValueError, because they mean other software trained the model."""
        unknown = set(values) - {f.name for f in fields(DetectionSettings)}
        if unknown:
            raise ValueError(f"unknown detection settings {sorted(unknown)}; update perception_nodes to use this model")
        known = dict(values)
        known["grid"] = PillarGrid(**known.get("grid", {}))
        known["classes"] = tuple(known.get("classes", CLASSES))
        return DetectionSettings(**known)
