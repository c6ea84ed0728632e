# SPDX-License-Identifier: Apache-2.0
"""Window attention of RegFormer (Liu et al., ICCV 2023) over cylinder images: Swin stages that hide empty cells, and
the bijective association of two images. Names of parameters are those of its checkpoint.

Open in the published facts and decided here: blocks are pre-norm with GELU, as in Swin (Liu et al., ICCV 2021); the
association first lets each image attend to itself (norm1, norm2 by image), then both to each other at once with one
map for queries, keys and values (norm3), then has a feed-forward by image (norm4 and mlp1, norm5 and mlp2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW = 4
HIDDEN = -100.0  # added to logits of cells in another part of the image, as in Swin
EMPTY = -1e4  # added to those of empty cells; finite, so that FP16 holds it
DROP_PATH = 0.1

Shape = tuple[int, int]


def cells_of(shape: Shape, device: torch.device | None = None) -> Tensor:
    """Row and column (H*W, 2) of each cell of an image, row by row."""
    index = torch.arange(shape[0] * shape[1], device=device)
    return torch.stack([index // shape[1], index % shape[1]], dim=-1)


def to_windows(x: Tensor, shape: Shape, shift: int) -> Tensor:
    """x (H*W, C) -> windows (B, WINDOW**2, C) of the image rolled by `shift` cells up and left."""
    image = torch.roll(x.reshape(*shape, -1), (-shift, -shift), (0, 1)) if shift else x
    rows, columns = shape[0] // WINDOW, shape[1] // WINDOW
    tiles = image.reshape(rows, WINDOW, columns, WINDOW, x.shape[-1]).transpose(1, 2)
    return tiles.reshape(rows * columns, WINDOW * WINDOW, x.shape[-1])


def from_windows(windows: Tensor, shape: Shape, shift: int) -> Tensor:
    """Windows (B, WINDOW**2, C) -> (H*W, C), the reverse of `to_windows`."""
    rows, columns, channels = shape[0] // WINDOW, shape[1] // WINDOW, windows.shape[-1]
    image = windows.reshape(rows, columns, WINDOW, WINDOW, channels).transpose(1, 2).reshape(*shape, channels)
    return (torch.roll(image, (shift, shift), (0, 1)) if shift else image).reshape(-1, channels)


def shift_mask(shape: Shape, shift: int) -> Tensor:
    """What windows (B, 16, 16) of the rolled image add to logits: HIDDEN where rolling brought far cells together."""
    parts = [torch.arange(length) >= length - shift for length in shape]
    part = (2 * parts[0].long()[:, None] + parts[1].long()).reshape(-1, 1)
    rolled = to_windows(part, shape, 0)
    return torch.where(rolled == rolled.transpose(1, 2), 0.0, HIDDEN)


def relative_positions() -> Tensor:
    """(16, 16) row of the table of biases for each pair of cells of a window."""
    cells = cells_of((WINDOW, WINDOW))
    offset = cells[:, None] - cells[None] + WINDOW - 1
    return offset[..., 0] * (2 * WINDOW - 1) + offset[..., 1]


class Attention(nn.Module):
    """Multi-head attention within windows, with a learned bias by relative position."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions())
        self.proj = nn.Linear(channels, channels)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Maps of windows (B, 16, C), bias (B, 16, 16) of logits -> (B, 16, C)."""
        q, k, v = (part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (query, key, value))
        cells = WINDOW * WINDOW
        places = self.relative_position_bias_table[self.relative_position_index.reshape(-1)].reshape(cells, cells, -1)
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        weights = torch.softmax(logits + places.permute(2, 0, 1) + bias[:, None], dim=-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class SelfAttention(Attention):
    """Windows of an image that attend to themselves."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads)
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, 16, C), bias (B, 16, 16) -> (B, 16, C)."""
        query, key, value = self.qkv(x).chunk(3, -1)
        return self.attend(query, key, value, bias)


class CrossAttention(Attention):
    """Windows of one image that attend to those of the other; one map makes queries, keys and values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads)
        self.qkv_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, other: Tensor, bias: Tensor) -> Tensor:
        """x, other (B, 16, C), bias (B, 16, 16) of the other's cells -> (B, 16, C)."""
        theirs = self.qkv_proj(other)
        return self.attend(self.qkv_proj(x), theirs, theirs, bias)


class Mlp(nn.Module):
    """(..., C) -> (..., C) by way of four times as many channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., C)."""
        return self.fc2(functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Windowed(nn.Module):
    """What the blocks share: a shift of the windows, which the blocks take in turns, and its mask."""

    attn_mask: Tensor | None

    def __init__(self, shape: Shape, shifted: bool) -> None:
        super().__init__()
        self.shape, self.shift = shape, WINDOW // 2 if shifted else 0
        self.register_buffer("attn_mask", shift_mask(shape, self.shift) if shifted else None)
        self.drop_path = nn.Dropout(DROP_PATH)

    def windows(self, x: Tensor) -> Tensor:
        """x (H*W, C) -> (B, 16, C)."""
        return to_windows(x, self.shape, self.shift)

    def bias(self, mask: Tensor) -> Tensor:
        """mask (H*W, 1), 1 where there is a point -> (B, 16, 16) to be added to logits."""
        hidden = ((1 - self.windows(mask)) * EMPTY).transpose(1, 2)
        return hidden.expand(-1, WINDOW * WINDOW, -1) if self.attn_mask is None else hidden + self.attn_mask

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """The residual sum; in training the whole branch is dropped at times."""
        kept: Tensor = self.drop_path(torch.ones_like(x[:1, :1]))
        return x + branch * kept


class SwinBlock(Windowed):
    """Self-attention within windows and feed-forward."""

    def __init__(self, channels: int, heads: int, shape: Shape, shifted: bool) -> None:
        super().__init__(shape, shifted)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = SelfAttention(channels, heads)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (H*W, C), mask (H*W, 1) -> (H*W, C)."""
        attended = self.attn(self.windows(self.norm1(x)), self.bias(mask))
        x = self.add(x, from_windows(attended, self.shape, self.shift))
        return self.add(x, self.mlp(self.norm2(x)))


class CrossBlock(Windowed):
    """Two images that attend to themselves and to each other, window by window."""

    def __init__(self, channels: int, heads: int, shape: Shape, shifted: bool) -> None:
        super().__init__(shape, shifted)
        self.norm1, self.norm2, self.norm3, self.norm4, self.norm5 = (nn.LayerNorm(channels) for _ in range(5))
        self.attn, self.cross_attn = SelfAttention(channels, heads), CrossAttention(channels, heads)
        self.mlp1, self.mlp2 = Mlp(channels), Mlp(channels)

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor, y_mask: Tensor) -> tuple[Tensor, Tensor]:
        """x, y (H*W, C), masks (H*W, 1) -> both, (H*W, C)."""
        x_bias, y_bias = self.bias(x_mask), self.bias(y_mask)
        x = self._add_windows(x, self.attn(self.windows(self.norm1(x)), x_bias))
        y = self._add_windows(y, self.attn(self.windows(self.norm2(y)), y_bias))
        first, second = self.windows(self.norm3(x)), self.windows(self.norm3(y))
        x = self._add_windows(x, self.cross_attn(first, second, y_bias))
        y = self._add_windows(y, self.cross_attn(second, first, x_bias))
        return self.add(x, self.mlp1(self.norm4(x))), self.add(y, self.mlp2(self.norm5(y)))

    def _add_windows(self, x: Tensor, windows: Tensor) -> Tensor:
        return self.add(x, from_windows(windows, self.shape, self.shift))


class SwinStage(nn.Module):
    """Blocks whose windows are shifted in turns."""

    def __init__(self, channels: int, heads: int, depth: int, shape: Shape) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(channels, heads, shape, bool(index % 2)) for index in range(depth))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (H*W, C), mask (H*W, 1) -> (H*W, C)."""
        for block in self.blocks:
            x = block(x, mask)
        return x


class CrossStage(nn.Module):
    """Blocks of two images; windows are shifted in turns where the image is larger than one of them."""

    def __init__(self, channels: int, heads: int, depth: int, shape: Shape) -> None:
        super().__init__()
        shifts = min(shape) > WINDOW
        self.blocks = nn.ModuleList(
            CrossBlock(channels, heads, shape, shifts and bool(index % 2)) for index in range(depth)
        )

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor, y_mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `CrossBlock`."""
        for block in self.blocks:
            x, y = block(x, y, x_mask, y_mask)
        return x, y
