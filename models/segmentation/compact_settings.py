# SPDX-License-Identifier: Apache-2.0
"""What fixes the input and output of the compact promptable network; kept in model.yaml."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

STRIDE = 8  # input pixels a cell of the image embedding
MASK_STRIDE = 2  # input pixels a pixel of a mask's logits


@dataclass(frozen=True)
class CompactSettings:
    """Image size in pixels (multiples of 16), widths of the network, points a prompt (a box takes two of them)."""

    width: int = 448
    height: int = 336
    channels: int = 128  # of the image embedding
    coarse: int = 256  # of the tokens at 1/16
    blocks: int = 6  # of attention among them
    heads: int = 8
    fine: int = 16  # channels at half of the resolution
    points: int = 12
    masks: int = 3  # for one prompt: a click may mean a thing, a part of it, or what it belongs to

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the image embedding."""
        return self.height // STRIDE, self.width // STRIDE

    @property
    def mask_size(self) -> tuple[int, int]:
        """Rows and columns of a mask's logits."""
        return self.height // MASK_STRIDE, self.width // MASK_STRIDE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for model.yaml."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> CompactSettings:
        """Inverse of `to_dict`; unknown names are an error."""
        unknown = set(values) - {field.name for field in fields(CompactSettings)}
        if unknown:
            raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
        return CompactSettings(**values)
