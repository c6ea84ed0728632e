# SPDX-License-Identifier: Apache-2.0
"""The mask decoder of SAM: a two-way transformer between tokens and the image, then masks (SAM, appendix A, figure 14).

Shapes: B prompts, T tokens, P = grid * grid patches, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.segmentation.sam_layers import LayerNorm2d, Perceptron, TwoLayers
from perception_models.segmentation.sam_prompts import Prompts
from perception_models.segmentation.sam_settings import SamSettings

CROSS_REDUCTION = 2  # attention between tokens and image has half of the channels


class SamDecoder(nn.Module):
    """Features and prompts -> masks and how good the decoder thinks they are."""

    def __init__(self, settings: SamSettings) -> None:
        super().__init__()
        channels, count = settings.channels, settings.masks + 1
        self.transformer = TwoWayTransformer(settings)
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(count, channels)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, 2, stride=2),
            LayerNorm2d(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(channels, channels, channels, channels // 8) for _ in range(count)
        )
        self.iou_prediction_head = Perceptron(channels, channels, channels, count)

    def forward(self, features: Tensor, positions: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """features and positions (1, C, grid, grid) -> logits (B, M, 4 grid, 4 grid), scores (B, M), predicted IoU.

        Of the M = masks + 1 answers the first is meant for prompts that are not ambiguous, the others are whole, part
        and subpart where they are.
        """
        tokens, bias = self._with_outputs(prompts)
        image = features + prompts.dense
        tokens, patches = self.transformer(tokens, bias, _rows(image), _rows(positions))
        upscaled = self.output_upscaling(patches.transpose(1, 2).reshape(image.shape))
        answers = enumerate(self.output_hypernetworks_mlps, start=1)
        weights = torch.stack([network(tokens[:, number]) for number, network in answers], dim=1)
        logits = (weights @ upscaled.flatten(2)).reshape(*weights.shape[:2], *upscaled.shape[2:])
        return logits, self.iou_prediction_head(tokens[:, 0])

    def _with_outputs(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """The prompts' tokens and bias behind those of the answers: IoU first, then masks."""
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        outputs = outputs[None].expand(prompts.tokens.shape[0], -1, -1)
        tokens = torch.cat([outputs, prompts.tokens], dim=1)
        bias = torch.cat([torch.zeros_like(outputs[..., 0]), prompts.bias], dim=1)
        return tokens, bias


def _rows(image: Tensor) -> Tensor:
    """(B, C, grid, grid) -> (B, P, C)."""
    return image.flatten(2).transpose(1, 2)


class TwoWayTransformer(nn.Module):
    """Tokens hear each other and the image, the image hears the tokens."""

    def __init__(self, settings: SamSettings) -> None:
        super().__init__()
        channels, heads = settings.channels, settings.decoder_heads
        self.layers = nn.ModuleList(
            TwoWayBlock(channels, heads, settings.decoder_mlp, first=number == 0)
            for number in range(settings.decoder_depth)
        )
        self.final_attn_token_to_image = Attention(channels, heads, CROSS_REDUCTION)
        self.norm_final_attn = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, bias: Tensor, patches: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, T, C), bias (B, T), patches (B, P, C), positions (1, P, C) -> tokens, patches.

        Tokens enter every attention with what they were at first added, patches with their positions.
        """
        places = tokens
        for layer in self.layers:
            tokens, patches = layer(tokens, places, bias, patches, positions)
        heard = self.final_attn_token_to_image(tokens + places, patches + positions, patches)
        return self.norm_final_attn(tokens + heard), patches


class TwoWayBlock(nn.Module):
    """One round. In the first, tokens are only places yet: attention among them replaces them."""

    def __init__(self, channels: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn_token_to_image = Attention(channels, heads, CROSS_REDUCTION)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = TwoLayers(channels, hidden, nn.ReLU())
        self.norm3 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = Attention(channels, heads, CROSS_REDUCTION)
        self.norm4 = nn.LayerNorm(channels)

    def forward(
        self, tokens: Tensor, places: Tensor, bias: Tensor, patches: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `TwoWayTransformer.forward`; places (B, T, C) are the tokens as they were at first."""
        if self.first:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens, bias))
        else:
            placed = tokens + places
            tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens, bias))
        image = patches + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + places, image, patches))
        tokens = self.norm3(tokens + self.mlp(tokens))
        patches = self.norm4(patches + self.cross_attn_image_to_token(image, tokens + places, tokens, bias))
        return tokens, patches


class Attention(nn.Module):
    """Attention of several heads, on C / reduction channels."""

    def __init__(self, channels: int, heads: int, reduction: int = 1) -> None:
        super().__init__()
        inner = channels // reduction
        self.heads = heads
        self.scale = (inner // heads) ** -0.5
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """q (B, N, C), k and v (B, M, C), bias (B, M) added to the keys' logits -> (B, N, C)."""
        q, k, v = (self._split(x) for x in (self.q_proj(q) * self.scale, self.k_proj(k), self.v_proj(v)))
        logits = q @ k.transpose(2, 3)
        if bias is not None:
            logits = logits + bias[:, None, None]
        heard = torch.softmax(logits, dim=-1) @ v
        result: Tensor = self.out_proj(heard.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, inner) -> (B, heads, N, inner / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
