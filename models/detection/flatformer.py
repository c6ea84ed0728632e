# SPDX-License-Identifier: Apache-2.0
"""Flattened window attention: tokens sorted by window, cut into groups of equal size (FlatFormer, CVPR 2023, section
3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupAttention(nn.Module):
    """Multi-head self-attention within groups; position is added to queries and keys, not to values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, position: Tensor, key_bias: Tensor) -> Tensor:
        """x, position (G, S, C); key_bias (G, 1, 1, S), 0 for real keys -> (G, S, C)."""
        groups, size, channels = x.shape
        # Two-dimensional products: exported as one Gemm with its bias.
        located = (x + position).flatten(0, 1)
        weight, bias = self.in_proj_weight, self.in_proj_bias
        queries_keys = F.linear(located, weight[: 2 * channels], bias[: 2 * channels])
        values = F.linear(x.flatten(0, 1), weight[2 * channels :], bias[2 * channels :])
        split = (groups, size, self.heads, channels // self.heads)
        q, k = (part.reshape(split).transpose(1, 2) for part in queries_keys.chunk(2, dim=-1))
        v = values.reshape(split).transpose(1, 2)
        scores = (q * (channels // self.heads) ** -0.5) @ k.transpose(2, 3) + key_bias
        attended = torch.softmax(scores.float(), dim=-1).to(v.dtype) @ v
        attended = attended.transpose(1, 2).reshape(groups * size, channels)
        return self.out_proj(attended).reshape(groups, size, channels)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Only here for the official key names `attn.attn.*`."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn = GroupAttention(channels, heads)

    def forward(self, x: Tensor, position: Tensor, key_bias: Tensor) -> Tensor:
        return self.attn(x, position, key_bias)  # type: ignore[no-any-return]


class FlatLayer(nn.Module):
    """One post-norm transformer layer over groups in one sorting: (G, S, C) -> (G * S, C)."""

    def __init__(self, channels: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.attn = _Attention(channels, heads)
        self.fc1 = nn.Linear(channels, ffn)
        self.fc2 = nn.Linear(ffn, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, position: Tensor, key_bias: Tensor) -> Tensor:
        x = self.norm1(x + self.attn(x, position, key_bias)).flatten(0, 1)
        return self.norm2(x + self.fc2(F.gelu(self.fc1(x))))  # type: ignore[no-any-return]


class FlatBlock(nn.Module):
    """Four layers, one a sorting: x, x-shifted, y, y-shifted."""

    def __init__(self, channels: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(FlatLayer(channels, heads, ffn) for _ in range(4))


class FlatFormerEncoder(nn.Module):
    """Blocks of flattened window attention over sparse tokens. Keys equal the official `middle_encoder` at its size
    (128, 8, 256, 2)."""

    positions: Tensor

    def __init__(
        self, channels: int = 128, heads: int = 8, ffn: int = 256, blocks: int = 2, group: int = 144, window: int = 13
    ) -> None:
        super().__init__()
        self.group = group
        self.block_list = nn.ModuleList(FlatBlock(channels, heads, ffn) for _ in range(blocks))
        self.register_buffer("positions", window_positions(window, channels), persistent=False)

    def forward(self, x: Tensor, orders: Tensor, inverse: Tensor, positions: Tensor, token_bias: Tensor) -> Tensor:
        """x (T, C), T a multiple of the group size; orders, inverse, positions (4, T) int64; token_bias (T,), 0 or
        MASKED -> (T, C)."""
        channels = x.shape[1]
        for block in self.block_list:
            for s, layer in enumerate(block.block):  # type: ignore[arg-type]
                grouped = x[orders[s]].reshape(-1, self.group, channels)
                located = self.positions[positions[s]].reshape(-1, self.group, channels).to(x.dtype)
                bias = token_bias[orders[s]].reshape(-1, 1, 1, self.group)
                x = layer(grouped, located, bias)[inverse[s]]
        return x


def window_positions(window: int, channels: int) -> Tensor:
    """Sinusoidal embedding of the in-window coordinates, half the channels for x and half for y -> (window * window,
    channels)."""
    quarter = channels // 4
    frequency = torch.exp(torch.arange(quarter) * (-math.log(10000.0) / quarter))
    angle = torch.arange(window)[:, None] * frequency[None, :]
    axis = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
    y = axis[:, None, :].expand(window, window, -1)
    x = axis[None, :, :].expand(window, window, -1)
    return torch.cat([x, y], dim=2).reshape(window * window, channels)
