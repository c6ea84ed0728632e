# SPDX-License-Identifier: Apache-2.0
"""Attention of points to the points around them: features and point-pair geometry, which no rigid motion changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAIR_FEATURES = 4  # of network_input._pair_features
RELATIVE = 16


class PointAttention(nn.Module):
    """Each query looks at its K neighbours among the keys; keys and values carry the geometry of the pair (local
    vector form of Point Transformer's positions, ICCV 2021, with rotation-invariant numbers). Pre-norm, residual.
    """

    def __init__(self, channels: int, heads: int, width: int = 32) -> None:
        super().__init__()
        self.heads, self.width = heads, width  # attention is narrower than the features: it costs K times as much
        self.query_norm, self.key_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Linear(channels, width)
        self.key_value = nn.Linear(channels, 2 * width)
        self.relative = nn.Sequential(
            nn.Linear(PAIR_FEATURES, RELATIVE), nn.ReLU(), nn.Linear(RELATIVE, RELATIVE), nn.ReLU()
        )
        self.place = nn.Linear(RELATIVE, 2 * width)
        self.out = nn.Linear(width, channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, queries: Tensor, keys: Tensor, neighbours: Tensor, geometry: Tensor) -> Tensor:
        """queries (Q, C), keys (P, C), neighbours (Q, K) rows of the keys, geometry (Q, K, 4) -> (Q, C)."""
        around, depth = neighbours.shape[1], self.width // self.heads
        split = (-1, around, self.heads, depth)
        table = self.key_value(self.key_norm(keys))
        gathered = table.index_select(0, neighbours.reshape(-1)).reshape(-1, around, 2 * self.width)
        key, value = (gathered + self.place(self.relative(geometry))).chunk(2, dim=-1)
        query = self.query(self.query_norm(queries)) * depth**-0.5
        logits = (query.reshape(-1, 1, self.heads, depth) * key.reshape(split)).sum(-1, keepdim=True)
        attended = (torch.softmax(logits, dim=1) * value.reshape(split)).sum(1).reshape(-1, self.width)
        return self.feed_forward(queries + self.out(attended))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Pre-norm residual layer of two linear maps: (..., C) -> (..., C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., C)."""
        return x + self.layers(x)  # type: ignore[no-any-return]
