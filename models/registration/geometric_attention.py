# SPDX-License-Identifier: Apache-2.0
"""Attention among the super-points of a cloud and across two clouds, with a geometric term in its logits.

Self-attention after GeoTransformer (CVPR 2022, section 3.2): q.k + q.r, where r embeds the distance of two
super-points and the angles to the nearest ones. Cross-attention has the same form where a distance across clouds is
known (Fully-Geometric Cross-Attention, 3DV 2025). r is expanded in radial basis functions, not in sinusoids.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from perception_models.registration.point_attention import FeedForward

MASKED = -1e4  # added to logits of what is padding; finite, so that FP16 holds it


class RadialBasis(nn.Module):
    """Gaussians on a scale from 0 to `end`: (...) -> (..., count)."""

    centres: Tensor

    def __init__(self, end: float, count: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, end, count), persistent=False)
        self.end, self.sharpness = end, 0.5 * ((count - 1) / end) ** 2

    def forward(self, x: Tensor) -> Tensor:
        """x (...) -> (..., count); what lies beyond `end` counts as `end`."""
        return torch.exp(-self.sharpness * (x.clamp(max=self.end)[..., None] - self.centres) ** 2)


class PairEmbedding(nn.Module):
    """Distances (S, T), in cells of the super-points, and, within a cloud, angles (S, T, A) -> (S, T, R)."""

    def __init__(self, channels: int, angles: bool, reach: float = 12.0) -> None:
        super().__init__()
        self.distance = nn.Sequential(RadialBasis(reach, 16), nn.Linear(16, channels))
        self.angle = nn.Sequential(RadialBasis(math.pi, 12), nn.Linear(12, channels)) if angles else None
        self.out = nn.Sequential(nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, distances: Tensor, angles: Tensor | None = None) -> Tensor:
        """distances (S, T), angles (S, T, A) -> (S, T, R), the largest over the A angles."""
        embedded = self.distance(distances)
        if self.angle is not None and angles is not None:
            embedded = embedded + self.angle(angles).amax(dim=2)
        return self.out(embedded)  # type: ignore[no-any-return]


class GeometricAttention(nn.Module):
    """Multi-head attention of super-points to super-points, of the same cloud or of the other. Pre-norm, residual."""

    def __init__(self, channels: int, heads: int, relative: int = 0) -> None:
        super().__init__()
        self.heads, self.relative = heads, relative
        self.query_norm, self.key_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.place = nn.Linear(channels, heads * relative) if relative else None
        self.out = nn.Linear(channels, channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, queries: Tensor, keys: Tensor, key_mask: Tensor, embedding: Tensor | None = None) -> Tensor:
        """queries (S, C), keys (T, C), key_mask (T,) 1 where there is a key, embedding (S, T, R) -> (S, C)."""
        channels = queries.shape[1]
        split = (-1, self.heads, channels // self.heads)
        normed = self.query_norm(queries)
        query = self.query(normed).reshape(split).transpose(0, 1)
        key, value = (part.reshape(split).transpose(0, 1) for part in self.key_value(self.key_norm(keys)).chunk(2, -1))
        logits = query @ key.transpose(1, 2)
        if self.place is not None and embedding is not None:
            placed = self.place(normed).reshape(-1, self.heads, self.relative)
            logits = logits + (placed @ embedding.transpose(1, 2)).transpose(0, 1)
        logits = logits * (channels // self.heads) ** -0.5 + (1 - key_mask) * MASKED
        attended = (torch.softmax(logits, dim=-1) @ value).transpose(0, 1).reshape(-1, channels)
        return self.feed_forward(queries + self.out(attended))  # type: ignore[no-any-return]
