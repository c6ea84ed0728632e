# SPDX-License-Identifier: Apache-2.0
"""The published configurations of SAM (Kirillov et al., Segment Anything, ICCV 2023): sizes that fix a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SamSettings:
    """Lengths in pixels (image_size, patch) and patches (window)."""

    width: int  # channels of the image encoder
    depth: int  # blocks of the image encoder
    heads: int  # of the image encoder
    global_blocks: tuple[int, ...]  # which attend over the whole image; the others within windows
    image_size: int = 1024
    patch: int = 16
    window: int = 14
    channels: int = 256  # of features and tokens
    masks: int = 3  # answers to an ambiguous prompt; one more token gives the single answer
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return self.image_size // self.patch

    @property
    def mask_size(self) -> int:
        """Pixels along a side of a low-resolution mask: four to a patch."""
        return 4 * self.grid

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for model.yaml."""
        return {**asdict(self), "global_blocks": list(self.global_blocks)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SamSettings:
        """The settings that `to_dict` wrote. Raises TypeError for missing and unknown names."""
        return cls(**{**values, "global_blocks": tuple(values["global_blocks"])})


PUBLISHED = {
    "sam_vit_b": SamSettings(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
    "sam_vit_l": SamSettings(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "sam_vit_h": SamSettings(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
}
