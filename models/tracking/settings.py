# SPDX-License-Identifier: Apache-2.0
"""What fixes a tracker's input and output: shared by training, export and run time, and kept in model.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

CONTEXT = 15  # facts of a target beside its points, see preprocess.context
CHANNELS = 6  # of a point, see preprocess.Channel


@dataclass(frozen=True)
class TrackingSettings:
    """Facts of one trained tracker. Lengths without a unit are shares of the target's own size."""

    kind: str = "motion"  # or "siamese"
    official: str = ""  # a published tracker with an input of its own, see official_preprocess
    current: int = 256  # points of this scan
    previous: int = 64  # points of the scan before
    memory: int = 64  # points of earlier views, in the object's own frame
    margin: float = 0.8  # around the box, of the root of its area from above
    previous_margin: float = 0.4
    margin_z: float = 0.25  # of the height
    memory_margin: float = 0.05  # of each side
    voxels: int = 16  # of the memory, along each side of the box
    remembered: int = 512  # points of the memory, of which some are drawn for each scan
    channels: tuple[int, ...] = (32, 64, 96)  # of the three stages
    queries: tuple[int, ...] = (128, 64, 32)  # of this scan, by stage; of the template half as many
    neighbours: tuple[int, ...] = (12, 16, 16)  # of a deformed group, by stage
    score_scale: float = 1.0  # calibration: probability = sigmoid(scale * logit + shift)
    score_shift: float = 0.0
    capacity: int = 8  # targets at once

    @property
    def template(self) -> int:
        """Points of the previous scan and of the memory together."""
        return self.previous + self.memory

    def to_dict(self) -> dict[str, Any]:
        """Plain values for model.yaml."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TrackingSettings:
        """Inverse of `to_dict`; unknown keys are a ValueError, because they mean other software trained the model."""
        unknown = set(values) - {f.name for f in fields(TrackingSettings)}
        if unknown:
            raise ValueError(f"unknown tracking settings {sorted(unknown)}; update perception_nodes to use this model")
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return TrackingSettings(**known)
