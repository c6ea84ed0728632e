# SPDX-License-Identifier: Apache-2.0
"""Sizes that fix a reconstruction network (Wang et al., CUT3R, CVPR 2025): of the compact and of the published ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

HEADS = ("dpt", "linear")


@dataclass(frozen=True)
class ReconstructionSettings:
    """Image size in pixels (multiples of `patch`, of twice as much for a "dpt" head) and widths of the network.

    Raises ValueError for sizes and names that no network has.
    """

    width: int = 224
    height: int = 160
    focal: float = 190.0  # pixels, to which an image of a known camera is brought; 0: the network takes any camera
    patch: int = 16
    encoder: int = 256  # channels of the image tokens
    encoder_blocks: int = 6
    encoder_heads: int = 8
    ray_blocks: int = 1  # of the encoder of ray maps
    decoder: int = 192  # channels of state and image tokens while they attend to each other
    decoder_blocks: int = 4
    decoder_heads: int = 6
    state: int = 192  # tokens
    memory: int = 64  # slots of the pose memory
    memory_blocks: int = 1  # for reading, and as many for writing
    memory_mlp: int = 1  # hidden channels of their perceptrons, in channels of the memory
    final_blocks: int = 1  # of attention between the image tokens and the point map in the world's frame
    head: str = "dpt"  # of the point maps
    colour: str = "linear"  # head of the colours
    features: int = 64  # of a dpt head where levels are fused
    layers: tuple[int, int, int, int] = (48, 96, 128, 96)  # its channels at 1/4, 1/8, 1/16, 1/32
    last: int = 32  # its channels at full resolution
    real: bool = True  # takes the features of an encoder that knows photographs

    def __post_init__(self) -> None:
        cell = 2 * self.patch if "dpt" in (self.head, self.colour) else self.patch
        if self.width % cell or self.height % cell:
            raise ValueError(f"an image of {self.width} x {self.height} is not made of cells of {cell} pixels")
        if self.head not in HEADS or self.colour not in HEADS:
            raise ValueError(f"head and colour are one of {', '.join(HEADS)}, not {self.head!r} and {self.colour!r}")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens."""
        return self.height // self.patch, self.width // self.patch

    @property
    def levels(self) -> tuple[int, int, int]:
        """The blocks of the decoder, from 1, behind which the heads read: half, three quarters, and the last."""
        middle, late = (-(-self.decoder_blocks * quarters // 4) for quarters in (2, 3))
        return middle, late, self.decoder_blocks

    def to_dict(self) -> dict[str, Any]:
        """Plain values for model.yaml."""
        return {**asdict(self), "layers": list(self.layers)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ReconstructionSettings:
        """Inverse of `to_dict`; unknown names are an error."""
        unknown = set(values) - {field.name for field in fields(ReconstructionSettings)}
        if unknown:
            raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
        layers = values.get("layers", ReconstructionSettings.layers)
        return ReconstructionSettings(**{**values, "layers": tuple(layers)})


def _official(width: int, height: int, head: str) -> ReconstructionSettings:
    return ReconstructionSettings(
        width=width,
        height=height,
        focal=0.0,
        encoder=1024,
        encoder_blocks=24,
        encoder_heads=16,
        ray_blocks=2,
        decoder=768,
        decoder_blocks=12,
        decoder_heads=12,
        state=768,
        memory=256,
        memory_blocks=2,
        memory_mlp=4,
        final_blocks=2,
        head=head,
        colour=head,
        features=256,
        layers=(96, 192, 384, 768),
        last=128,
        real=False,
    )


COMPACT = ReconstructionSettings()
OFFICIAL = {
    "cut3r_512_dpt": _official(512, 384, "dpt"),
    "cut3r_224_linear": _official(224, 224, "linear"),
}
