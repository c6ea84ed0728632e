# SPDX-License-Identifier: Apache-2.0
"""Point-to-pillar attention: a learnable latent query per pillar in place of max pooling (PVTransformer, ICRA 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PointToPillarAttention(nn.Module):
    """Cross-attention from one latent query a pillar to its points; the pillar's own code is added to the learnt
    latent.

    With a single query, keys and values need no tensors of their own: the query is carried back through the key's
    projection, and the value's projection is applied after pooling. The key's bias shifts all scores alike and is void.
    """

    def __init__(self, point_features: int, channels: int, heads: int, hidden: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.randn(channels) * 0.02)
        self.embed = nn.Linear(point_features, hidden)
        self.query = nn.Linear(channels, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, points: Tensor, point_bias: Tensor, code: Tensor) -> Tensor:
        """points (T, K, F), point_bias (T, K) 0 or -1e4, code (T, C) -> (T, C)."""
        tokens, slots, _ = points.shape
        hidden = F.relu(self.embed(points.flatten(0, 1))).reshape(tokens, slots, -1)
        latent = self.latent + code
        asked = self._through_key(self.query(latent))
        scores = asked @ hidden.transpose(1, 2) + point_bias[:, None, :]
        pooled = torch.softmax(scores.float(), dim=-1).to(hidden.dtype) @ hidden
        return self.norm(latent + self._value_of(pooled))  # type: ignore[no-any-return]

    def _through_key(self, query: Tensor) -> Tensor:
        """Queries (T, D) as vectors (T, heads, hidden) whose product with a point's hidden features is its score."""
        size = query.shape[1] // self.heads
        by_head = query.reshape(-1, self.heads, size).transpose(0, 1)
        weight = self.key.weight.reshape(self.heads, size, -1)
        scaled: Tensor = (by_head @ weight).transpose(0, 1) * size**-0.5
        return scaled

    def _value_of(self, pooled: Tensor) -> Tensor:
        """Each head's pooled hidden features (T, heads, hidden) through its rows of the value's projection -> (T,
        C)."""
        weight = self.value.weight.reshape(self.heads, -1, pooled.shape[2])
        by_head = pooled.transpose(0, 1) @ weight.transpose(1, 2)
        return by_head.transpose(0, 1).reshape(pooled.shape[0], -1) + self.value.bias


class PointMaxPool(nn.Module):
    """The plain alternative (PointNet with max pooling), for the comparison in the model card."""

    def __init__(self, point_features: int, channels: int) -> None:
        super().__init__()
        self.embed = nn.Linear(point_features, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, points: Tensor, point_bias: Tensor, code: Tensor) -> Tensor:
        """As `PointToPillarAttention.forward`."""
        hidden = F.relu(self.embed(points)) + point_bias[:, :, None]
        return self.norm(code + F.relu(hidden.amax(dim=1)))  # type: ignore[no-any-return]
