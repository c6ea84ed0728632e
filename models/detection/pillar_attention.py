# SPDX-License-Identifier: Apache-2.0
"""Point-to-pillar attention: a learnable latent query per pillar in place of max pooling (PVTransformer, ICRA 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PointToPillarAttention(nn.Module):
    """Cross-attention from one latent query a pillar to its points; the pillar's own code is added to the learnt
    latent."""

    def __init__(self, point_features: int, channels: int, heads: int, hidden: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.latent = nn.Parameter(torch.randn(channels) * 0.02)
        self.embed = nn.Linear(point_features + 3, hidden)
        self.query = nn.Linear(channels, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, points: Tensor, point_bias: Tensor, code: Tensor) -> Tensor:
        """points (T, K, F), point_bias (T, K) 0 or -1e4, code (T, C) -> (T, C)."""
        tokens, slots, _ = points.shape
        hidden = F.relu(self.embed(_with_offsets(points, point_bias)))
        latent = self.latent + code
        q = self.query(latent).reshape(tokens, self.heads, 1, -1)
        k = self.key(hidden).reshape(tokens, slots, self.heads, -1).permute(0, 2, 3, 1)
        v = self.value(hidden).reshape(tokens, slots, self.heads, -1).transpose(1, 2)
        scores = q @ k * (k.shape[2] ** -0.5) + point_bias[:, None, None, :]
        pooled = torch.softmax(scores.float(), dim=-1).to(v.dtype) @ v
        return self.norm(latent + pooled.reshape(tokens, -1))  # type: ignore[no-any-return]


class PointMaxPool(nn.Module):
    """The plain alternative (PointNet with max pooling), for the comparison in the model card."""

    def __init__(self, point_features: int, channels: int) -> None:
        super().__init__()
        self.embed = nn.Linear(point_features + 3, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, points: Tensor, point_bias: Tensor, code: Tensor) -> Tensor:
        """As `PointToPillarAttention.forward`."""
        hidden = F.relu(self.embed(_with_offsets(points, point_bias))) + point_bias[:, :, None]
        return self.norm(code + F.relu(hidden.amax(dim=1)))  # type: ignore[no-any-return]


def _with_offsets(points: Tensor, point_bias: Tensor) -> Tensor:
    """Append each point's offset from the mean of its pillar's points."""
    present = (point_bias == 0).to(points.dtype)[:, :, None]
    mean = (points[:, :, :3] * present).sum(1, keepdim=True) / present.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([points, (points[:, :, :3] - mean) * present], dim=2)
