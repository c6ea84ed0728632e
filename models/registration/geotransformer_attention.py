# SPDX-License-Identifier: Apache-2.0
"""The transformer of GeoTransformer (CVPR 2022, section 3.2): self-attention with embedded distances and angles, then
cross-attention, in turns. Names of parameters are those of the published checkpoints."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from perception_models.registration.geotransformer_settings import GeoTransformerSettings

MASKED = -1e4  # added to logits of what is padding; finite, so that FP16 holds it


class Sinusoid(nn.Module):
    """(...) -> (..., C): sine and cosine in turns, of wave lengths from 2 pi to 20000 pi (Vaswani et al., 2017)."""

    div_term: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("div_term", torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels)))

    def forward(self, x: Tensor) -> Tensor:
        """x (...) -> (..., C)."""
        angle = x[..., None] * self.div_term
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class StructureEmbedding(nn.Module):
    """Distances (S, S) m and angles (S, S, A) radians among super-points -> (S, S, C)."""

    def __init__(self, settings: GeoTransformerSettings) -> None:
        super().__init__()
        self.per_metre = 1 / settings.distance_sigma
        self.per_radian = 180 / (settings.angle_sigma * math.pi)
        self.embedding = Sinusoid(settings.hidden)
        self.proj_d = nn.Linear(settings.hidden, settings.hidden)
        self.proj_a = nn.Linear(settings.hidden, settings.hidden)

    def forward(self, distances: Tensor, angles: Tensor) -> Tensor:
        """Distances and, for the largest of each channel, angles."""
        by_distance = self.proj_d(self.embedding(distances * self.per_metre))
        by_angle = [self.proj_a(self.embedding(angle * self.per_radian)) for angle in angles.unbind(-1)]
        return by_distance + torch.stack(by_angle).amax(0)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention of (S, C) to (T, C), for self-attention with embedded places (S, T, C) in its logits."""

    def __init__(self, channels: int, heads: int, relative: bool) -> None:
        super().__init__()
        self.heads = heads
        self.proj_q, self.proj_k, self.proj_v = (nn.Linear(channels, channels) for _ in range(3))
        self.proj_p = nn.Linear(channels, channels) if relative else None

    def forward(self, x: Tensor, source: Tensor, source_mask: Tensor, places: Tensor | None) -> Tensor:
        """x (S, C), source (T, C) with mask (T,), places (S, T, C) -> (S, C)."""
        depth = x.shape[1] // self.heads
        q, k, v = self._split(self.proj_q(x)), self._split(self.proj_k(source)), self._split(self.proj_v(source))
        logits = q @ k.transpose(1, 2)
        if self.proj_p is not None and places is not None:
            logits = logits + self._by_place(q, places)
        logits = logits * depth**-0.5 + (source_mask - 1) * -MASKED
        return (torch.softmax(logits, dim=-1) @ v).transpose(0, 1).flatten(1)

    def _by_place(self, q: Tensor, places: Tensor) -> Tensor:
        """q . W p (H, S, T), with W on the side of q: W p would be as large as p again."""
        assert self.proj_p is not None
        heads, count, depth = q.shape
        weight = self.proj_p.weight.reshape(heads, depth, -1)
        turned = (q @ weight).transpose(0, 1)  # (S, H, C)
        offset = q @ self.proj_p.bias.reshape(heads, depth, 1)
        return (turned @ places.transpose(1, 2)).transpose(0, 1) + offset

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], self.heads, -1).transpose(0, 1)


class AttentionLayer(nn.Module):
    """Attention, its output map, residual and norm."""

    def __init__(self, channels: int, heads: int, relative: bool) -> None:
        super().__init__()
        self.attention = Attention(channels, heads, relative)
        self.linear = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, source: Tensor, source_mask: Tensor, places: Tensor | None) -> Tensor:
        """As `Attention`."""
        return self.norm(x + self.linear(self.attention(x, source, source_mask, places)))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """(S, C) -> (S, C): two linear maps, residual and norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand, self.squeeze = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (S, C) -> (S, C)."""
        return self.norm(x + self.squeeze(torch.relu(self.expand(x))))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention and feed-forward."""

    def __init__(self, channels: int, heads: int, relative: bool) -> None:
        super().__init__()
        self.attention = AttentionLayer(channels, heads, relative)
        self.output = FeedForward(channels)

    def forward(self, x: Tensor, source: Tensor, source_mask: Tensor, places: Tensor | None = None) -> Tensor:
        """As `Attention`."""
        return self.output(self.attention(x, source, source_mask, places))  # type: ignore[no-any-return]


class Layers(nn.Module):
    """Self- and cross-attention in turns; in cross-attention the target goes first, and the source hears the result."""

    def __init__(self, settings: GeoTransformerSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(settings.hidden, settings.heads, relative=index % 2 == 0) for index in range(2 * settings.rounds)
        )

    def forward(
        self, target: Tensor, source: Tensor, masks: tuple[Tensor, Tensor], places: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """target (T, C), source (S, C); masks and places of both in this order."""
        for index, layer in enumerate(self.layers):
            if index % 2 == 0:
                target = layer(target, target, masks[0], places[0])
                source = layer(source, source, masks[1], places[1])
            else:
                target = layer(target, source, masks[1])
                source = layer(source, target, masks[0])
        return target, source


class GeometricTransformer(nn.Module):
    """Super-point features of both clouds, which hear of each other."""

    def __init__(self, settings: GeoTransformerSettings) -> None:
        super().__init__()
        self.embedding = StructureEmbedding(settings)
        self.in_proj = nn.Linear(settings.coarse_channels, settings.hidden)
        self.transformer = Layers(settings)
        self.out_proj = nn.Linear(settings.hidden, settings.channels)

    def forward(
        self,
        target: Tensor,
        source: Tensor,
        masks: tuple[Tensor, Tensor],
        geometry: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """target (T, coarse), source (S, coarse), masks (T,), (S,), distances and angles of both -> (T, C), (S, C)."""
        places = self.embedding(*geometry[0]), self.embedding(*geometry[1])
        both = self.transformer(self.in_proj(target), self.in_proj(source), masks, places)
        return self.out_proj(both[0]), self.out_proj(both[1])
