# SPDX-License-Identifier: Apache-2.0
"""The prompt encoder of SAM: clicks, box corners and a mask as tokens and as a map (SAM, appendix A)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception_models.segmentation.sam_layers import LayerNorm2d
from perception_models.segmentation.sam_settings import SamSettings

BACKGROUND, FOREGROUND, UPPER_LEFT, LOWER_RIGHT, NO_POINT = 0, 1, 2, 3, -1
UNHEARD = -1e4  # added to a logit; within the range of FP16, and its exponential is zero
MASK_CHANNELS = 16


class Prompts(NamedTuple):
    """B encoded prompts."""

    tokens: Tensor  # (B, K + 1, C)
    bias: Tensor  # (B, K + 1): 0 for a token that is heard, UNHEARD for padding
    dense: Tensor  # (B, C, grid, grid), to be added to the features


class SamPrompts(nn.Module):
    """Points with labels, and a mask of low resolution -> tokens and a map.

    A label says what a point is: 1 foreground, 0 background, 2 and 3 the corners of a box, -1 no point. SAM was
    trained to find one token for "no point" behind clicks without a box; it is added here. Every other point with label
    -1 is padding that no attention hears, so prompts of different length may share a batch.
    """

    def __init__(self, settings: SamSettings) -> None:
        super().__init__()
        channels = settings.channels
        self.image_size, self.grid = settings.image_size, settings.grid
        self.pe_layer = FourierPositions(channels)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in range(LOWER_RIGHT + 1))
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, 2, stride=2),
            LayerNorm2d(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, 2, stride=2),
            LayerNorm2d(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, channels, 1),
        )
        self.no_mask_embed = nn.Embedding(1, channels)

    def forward(self, coordinates: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor) -> Prompts:
        """coordinates (B, K, 2) x y in pixels of the padded image, labels (B, K) int64 with K > 0, mask
        (B, 1, 4 grid, 4 grid) logits, has_mask (B,) 1 or 0."""
        labels = torch.cat([labels, torch.full_like(labels[:, :1], NO_POINT)], dim=1)
        coordinates = torch.cat([coordinates, torch.zeros_like(coordinates[:, :1])], dim=1)
        places = self.pe_layer((coordinates + 0.5) / self.image_size)
        is_point = (labels >= 0).to(places.dtype)
        kinds = torch.cat([self.not_a_point_embed.weight, *self.point_embeddings.parameters()])
        tokens = kinds[labels + 1] + places * is_point[..., None]
        return Prompts(tokens, self._bias(labels, is_point), self._dense(mask, has_mask))

    def image_positions(self) -> Tensor:
        """Encoded centres of the patches (1, C, grid, grid)."""
        centres = (torch.arange(self.grid, device=self.no_mask_embed.weight.device) + 0.5) / self.grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        positions: Tensor = self.pe_layer(torch.stack([x, y], dim=-1))
        return positions.permute(2, 0, 1)[None]

    def _bias(self, labels: Tensor, is_point: Tensor) -> Tensor:
        highest = labels.to(is_point.dtype).amax(dim=1, keepdim=True)
        only_clicks = ((highest >= BACKGROUND) & (highest < UPPER_LEFT)).to(is_point.dtype)
        heard = torch.cat([is_point[:, :-1], only_clicks], dim=1)
        return (1 - heard) * UNHEARD

    def _dense(self, mask: Tensor, has_mask: Tensor) -> Tensor:
        given = has_mask[:, None, None, None]
        dense: Tensor = self.mask_downscaling(mask) * given
        return dense + self.no_mask_embed.weight[:, :, None, None] * (1 - given)


class FourierPositions(nn.Module):
    """Sines and cosines of random frequencies (Tancik et al., Fourier Features, NeurIPS 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))

    def forward(self, places: Tensor) -> Tensor:
        """Places (..., 2) x y, 0..1 over the padded image -> (..., channels)."""
        phases = (2 * places - 1) @ self.positional_encoding_gaussian_matrix * (2 * math.pi)
        return torch.cat([phases.sin(), phases.cos()], dim=-1)
