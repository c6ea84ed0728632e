# SPDX-License-Identifier: Apache-2.0
"""Two-way attention between prompt tokens and an image (Segment Anything, Kirillov et al., ICCV 2023, section A)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """Two layers on (..., C)."""

    def __init__(self, channels: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, out or channels)

    def forward(self, values: Tensor) -> Tensor:
        """(..., out)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(values)))
        return out


class Attention(nn.Module):
    """Multi-head attention, `inner` channels wide inside: queries (B, N, C), keys and values (B, M, C)."""

    def __init__(self, channels: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(channels, inner) for _ in range(3))
        self.out = nn.Linear(inner, channels)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, N, C)."""
        q, k, v = self._split(self.q(queries)), self._split(self.k(keys)), self._split(self.v(values))
        # Written out: the fused kernel is several times slower where queries are few and keys many, or the reverse.
        mixed = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, values: Tensor) -> Tensor:
        batch, count, channels = values.shape
        return values.reshape(batch, count, self.heads, channels // self.heads).transpose(1, 2)


class Layer(nn.Module):
    """Tokens among themselves, tokens to image, MLP, image to tokens."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.own = Attention(channels, channels, heads)
        self.to_image = Attention(channels, channels // 2, heads)
        self.mlp = Mlp(channels, 4 * channels)
        self.to_tokens = Attention(channels, channels // 2, heads)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))

    def forward(self, tokens: Tensor, image: Tensor, prompts: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, N, C), image (B, M, C); prompts (B, N, C) and position (1, M, C) are added to queries and keys."""
        queries = tokens + prompts
        tokens = self.norms[0](tokens + self.own(queries, queries, tokens))
        keys = image + position
        tokens = self.norms[1](tokens + self.to_image(tokens + prompts, keys, image))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        image = self.norms[3](image + self.to_tokens(keys, tokens + prompts, tokens))
        return tokens, image


class TwoWay(nn.Module):
    """Layers, and a last look of the tokens at the image."""

    def __init__(self, channels: int, depth: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(channels, heads) for _ in range(depth))
        self.last = Attention(channels, channels // 2, heads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, prompts: Tensor, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """prompts (B, N, C), image (B, M, C), position (1, M, C) -> both as they became."""
        tokens = prompts
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompts, position)
        tokens = self.norm(tokens + self.last(tokens + prompts, image + position, image))
        return tokens, image
