# SPDX-License-Identifier: Apache-2.0
"""Layers of CUT3R's transformers, with the parameter names of its checkpoints: pre-norm blocks as of ViT (Dosovitskiy
et al., ICLR 2021) and of the decoder of CroCo v2 (Weinzaepfel et al., ICCV 2023).

A table of `turns` tells where the tokens stand; None where their order means nothing. A residual stream is FP32 also
under autocast and in FP16 engines: what starts it is cast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from perception_models.reconstruction.rope import turn

EPS = 1e-6


def norm(channels: int) -> nn.LayerNorm:
    """Over the channels."""
    return nn.LayerNorm(channels, eps=EPS)


class Mlp(nn.Module):
    """(..., channels) -> (..., out)."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        result: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return result


class Attention(nn.Module):
    """Self-attention (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.channels = heads, channels // heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, places: Tensor | None) -> Tensor:
        """See the class."""
        q, k, v = shaped(self.qkv(x), 3, self.heads, self.channels).permute(2, 0, 3, 1, 4).unbind(0)
        if places is not None:
            q, k = turn(q, places), turn(k, places)
        return _heard(q, k, v, self.channels, self.proj)


class CrossAttention(nn.Module):
    """What x (B, N, C) hears of y (B, M, C) -> (B, N, C); and (B, N) how strongly each token of x is drawn to y: the
    mean of its logits before the softmax, over heads and tokens of y."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.channels = heads, channels // heads
        self.projq, self.projk = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.projv, self.proj = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor, places_x: Tensor | None, places_y: Tensor | None) -> tuple[Tensor, Tensor]:
        """See the class."""
        q, k, v = self._split(self.projq(x)), self._split(self.projk(y)), self._split(self.projv(y))
        if places_x is not None and places_y is not None:
            q, k = turn(q, places_x), turn(k, places_y)
        # The mean of the products is the product with the mean, so the logits themselves need not be kept.
        drawn = (q * k.mean(2, keepdim=True)).sum(-1).mean(1) * self.channels**-0.5
        return _heard(q, k, v, self.channels, self.proj), drawn

    def _split(self, x: Tensor) -> Tensor:
        return shaped(x, self.heads, self.channels).transpose(1, 2)


def _heard(q: Tensor, k: Tensor, v: Tensor, channels: int, projection: nn.Module) -> Tensor:
    """Attention of heads (B, H, N, channels) -> (B, N, H * channels) projected."""
    # The scale is named: left out, an exported graph computes it from shapes.
    heard = functional.scaled_dot_product_attention(q, k, v, scale=channels**-0.5)
    result: Tensor = projection(shaped(heard.transpose(1, 2), -1))
    return result


def shaped(x: Tensor, *channels: int) -> Tensor:
    """(B, N, ...) -> (B, N, *channels). Not by `flatten` and `unflatten`, which in an exported graph ask for shapes."""
    return x.reshape(x.shape[0], x.shape[1], *channels)


class Block(nn.Module):
    """Self-attention and perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.attn = Attention(channels, heads)
        self.mlp = Mlp(channels, 4 * channels, channels)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = x + self.attn(self.norm1(x), places)
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class DecoderBlock(nn.Module):
    """Self-attention, attention to another stream and perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, channels: int, heads: int, mlp: int = 4) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = norm(channels), norm(channels), norm(channels)
        self.norm_y = norm(channels)
        self.attn = Attention(channels, heads)
        self.cross_attn = CrossAttention(channels, heads)
        self.mlp = Mlp(channels, mlp * channels, channels)

    def forward(
        self, x: Tensor, y: Tensor, places_x: Tensor | None = None, places_y: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (B, N, C), y (B, M, C) -> x (B, N, C) and how strongly it was drawn to y (B, N), see `CrossAttention`."""
        x = x + self.attn(self.norm1(x), places_x)
        heard, drawn = self.cross_attn(self.norm2(x), self.norm_y(y), places_x, places_y)
        x = x + heard
        return x + self.mlp(self.norm3(x)), drawn


class ModulatedNorm(nn.Module):
    """A norm whose scale and shift a condition sets (Peebles and Xie, DiT, ICCV 2023, section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(channels, 2 * channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, N, C), condition (B, C) -> (B, N, C)."""
        shift, scale = self.mlp(condition).reshape(x.shape[0], 2, 1, -1).unbind(1)
        result: Tensor = self.norm(x) * (1 + scale) + shift
        return result


class ModulatedBlock(nn.Module):
    """A `Block` whose norms a condition modulates."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ModulatedNorm(channels), ModulatedNorm(channels)
        self.attn = Attention(channels, heads)
        self.mlp = Mlp(channels, 4 * channels, channels)

    def forward(self, x: Tensor, condition: Tensor, places: Tensor) -> Tensor:
        """x (B, N, C), condition (B, C) -> (B, N, C)."""
        x = x + self.attn(self.norm1(x, condition), places)
        result: Tensor = x + self.mlp(self.norm2(x, condition))
        return result


class Patches(nn.Module):
    """A token for each patch of a map: (B, channels, H, W) -> (B, H/patch * W/patch, width)."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return shaped(self.proj(x), -1).transpose(1, 2).float()


def precisely(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer` in FP32 also under autocast: the 8 bits of bfloat16 tell an angle to half a degree."""
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = layer(x.float())
    return result
