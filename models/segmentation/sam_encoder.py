# SPDX-License-Identifier: Apache-2.0
"""The image encoder of SAM: a plain vision transformer with windows (Li et al., ViTDet, ECCV 2022; SAM, appendix A).

Most blocks attend within windows of 14 x 14 patches, four over the whole image; both add relative positions that are
decomposed into one table for rows and one for columns (Li et al., MViTv2, CVPR 2022, section 4.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from perception_models.segmentation.sam_layers import NORM_EPS, LayerNorm2d, TwoLayers
from perception_models.segmentation.sam_settings import SamSettings

MLP_RATIO = 4


class SamEncoder(nn.Module):
    """A normalised, padded image -> features of its patches."""

    def __init__(self, settings: SamSettings) -> None:
        super().__init__()
        grid, width, channels = settings.grid, settings.width, settings.channels
        self.patch_embed = PatchEmbedding(settings.patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, width))
        self.blocks = nn.ModuleList(
            Block(width, settings.heads, grid, 0 if number in settings.global_blocks else settings.window)
            for number in range(settings.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(width, channels, 1, bias=False),
            LayerNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            LayerNorm2d(channels),
        )

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """image (B, 3, S, S) -> features (B, channels, S/patch, S/patch).

        With `first` it goes on where blocks before that ended, with `last` it ends there; between them are tokens
        (B, S/patch, S/patch, width). An export uses this where the encoder is too large for one file.
        """
        if first == 0:
            x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks[first:last]:
            x = block(x)
        return x if last is not None else self.neck(x.permute(0, 3, 1, 2))


class PatchEmbedding(nn.Module):
    """A vector for each patch."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, S/patch, S/patch, width)."""
        patches: Tensor = self.proj(image)
        return patches.permute(0, 2, 3, 1)


class Block(nn.Module):
    """Attention and perceptron, each behind a norm and beside a shortcut; `window` 0 attends over the whole grid."""

    def __init__(self, width: int, heads: int, grid: int, window: int) -> None:
        super().__init__()
        self.grid, self.window = grid, window
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = RelativeAttention(width, heads, window or grid)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = TwoLayers(width, MLP_RATIO * width, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, grid, grid, width) -> (B, grid, grid, width)."""
        x = x + self._attend(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x

    def _attend(self, x: Tensor) -> Tensor:
        if not self.window:
            attended: Tensor = self.attn(x)
            return attended
        return merge(self.attn(partition(x, self.grid, self.window)), self.grid, self.window)


class RelativeAttention(nn.Module):
    """Self-attention over a square of patches; a query adds to each logit what it thinks of the key's distance in rows,
    and in columns."""

    distances: Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.side, self.heads = side, heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        places = torch.arange(side)
        self.register_buffer("distances", places[:, None] - places + side - 1, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, side, side, width) -> (N, side, side, width)."""
        qkv = self.qkv(x).reshape(x.shape[0], self.side**2, 3, self.heads, x.shape[3] // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q * self.scale) @ k.transpose(-2, -1) + self.position_logits(q)
        heard = torch.softmax(logits, dim=-1) @ v
        result: Tensor = self.proj(heard.transpose(1, 2).reshape(x.shape))
        return result

    def position_logits(self, q: Tensor) -> Tensor:
        """Queries (N, heads, side*side, C) -> (N, heads, side*side, side*side), query by key: q . (row + column)."""
        count, heads, keys, channels = q.shape
        q = q.reshape(count, heads, self.side, self.side, channels)
        of_rows = q @ self.rel_pos_h[self.distances].transpose(1, 2)  # tables are (query, key, C), batched by query row
        of_columns = q.transpose(2, 3) @ self.rel_pos_w[self.distances].transpose(1, 2)
        both = of_rows[..., :, None] + of_columns.transpose(2, 3)[..., None, :]
        return both.reshape(count, heads, keys, keys)


def partition(x: Tensor, grid: int, window: int) -> Tensor:
    """(B, grid, grid, C) cut into windows (B * n * n, window, window, C), padded with zeros at its right and lower
    border. The padding is attended to as well: the published weights are used to it."""
    count = math.ceil(grid / window)
    pad = count * window - grid
    # Zeros are joined on: the exporter makes a constant of them, but writes torch's pad as a dozen operators on shapes.
    x = torch.cat([x, x.new_zeros(x.shape[0], pad, grid, x.shape[3])], dim=1)
    x = torch.cat([x, x.new_zeros(x.shape[0], grid + pad, pad, x.shape[3])], dim=2)
    x = x.reshape(-1, count, window, count, window, x.shape[3]).transpose(2, 3)
    return x.reshape(-1, window, window, x.shape[5])


def merge(windows: Tensor, grid: int, window: int) -> Tensor:
    """What `partition` cut, put together again without the padding -> (B, grid, grid, C)."""
    count = math.ceil(grid / window)
    x = windows.reshape(-1, count, count, window, window, windows.shape[3]).transpose(2, 3)
    return x.reshape(-1, count * window, count * window, x.shape[5])[:, :grid, :grid]
