# SPDX-License-Identifier: Apache-2.0
"""PL2Map at full size (ICRA 2024, section III), with the parameter names of its checkpoints.

One network a scene: descriptors of an image's key points and lines become points and line segments of the scene, each
with a reliability. Points and lines share one attention graph; neither is told where in the image it lies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = 256
HEADS = 4
LINE_TOKENS = 12
ATTENTION = ("self", "cross", "self", "cross", "self")
MASKED = -1e4
INPUTS = ("point_descriptors", "line_tokens", "point_bias", "line_bias")
OUTPUTS = ("points", "point_reliability", "lines", "line_reliability")


class TokenAttention(nn.Module):
    """Self-attention among the tokens of a line, post-norm: (L, T, C) -> (L, T, C)."""

    def __init__(self, channels: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.w_qs = nn.Linear(channels, channels)
        self.w_ks = nn.Linear(channels, channels)
        self.w_vs = nn.Linear(channels, channels)
        self.fc = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(part(x)) for part in (self.w_qs, self.w_ks, self.w_vs))
        weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, dim=-1)
        attended = (weights @ v).transpose(1, 2).reshape(x.shape)
        return self.layer_norm(x + self.dropout(self.fc(attended)))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """Token-wise network of two layers, post-norm."""

    def __init__(self, channels: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.w_1 = nn.Linear(channels, hidden)
        self.w_2 = nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.w_1(x))
        return self.layer_norm(x + self.dropout(self.w_2(hidden)))  # type: ignore[no-any-return]


class LineLayer(nn.Module):
    """One transformer layer over the tokens of each line."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.slf_attn = TokenAttention(channels, heads)
        self.pos_ffn = FeedForward(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.pos_ffn(self.slf_attn(x))  # type: ignore[no-any-return]


class LineEncoder(nn.Module):
    """Tokens of each line (L, T, C), its two ends first, then samples between them -> one descriptor a line (L, C)."""

    def __init__(self, channels: int = CHANNELS, heads: int = HEADS, hidden: int = 1024) -> None:
        super().__init__()
        self.desc_layers = nn.ModuleList([LineLayer(channels, heads, hidden)])

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.desc_layers:
            tokens = layer(tokens)
        return tokens[:, 0]


class GraphAttention(nn.Module):
    """Multi-head attention with the channel order of SuperGlue's checkpoints: a head's channels are `heads` apart."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.merge = nn.Conv1d(channels, channels, 1)
        self.proj = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(3))

    def forward(self, x: Tensor, source: Tensor, source_bias: Tensor) -> Tensor:
        """x (1, C, N), source (1, C, M), source_bias (M,), 0 or MASKED -> messages (1, C, N)."""
        q, k, v = (self._split(part(y)) for part, y in zip(self.proj, (x, source, source), strict=True))
        scores = torch.einsum("dhn,dhm->hnm", q, k) * q.shape[0] ** -0.5 + source_bias
        # The factor silences a source in which everything is masked: softmax alone would spread over its padding.
        weights = torch.softmax(scores, dim=-1) * (source_bias > MASKED / 2).to(scores.dtype)
        return self.merge(torch.einsum("hnm,dhm->dhn", weights, v).reshape(x.shape))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[1] // self.heads, self.heads, x.shape[2])


class GraphLayer(nn.Module):
    """What a node adds to itself after hearing its sources."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn = GraphAttention(channels, heads)
        self.mlp = nn.Sequential(
            nn.Conv1d(2 * channels, 2 * channels, 1), nn.ReLU(), nn.Conv1d(2 * channels, channels, 1)
        )

    def forward(self, x: Tensor, source: Tensor, source_bias: Tensor) -> Tensor:
        return self.mlp(torch.cat([x, self.attn(x, source, source_bias)], dim=1))  # type: ignore[no-any-return]


class AttentionalGraph(nn.Module):
    """Self- and cross-attention in turn; points and lines share the weights of a layer."""

    def __init__(self, channels: int = CHANNELS, heads: int = HEADS, kinds: tuple[str, ...] = ATTENTION) -> None:
        super().__init__()
        self.kinds = kinds
        self.layers = nn.ModuleList(GraphLayer(channels, heads) for _ in kinds)

    def forward(self, points: Tensor, lines: Tensor, point_bias: Tensor, line_bias: Tensor) -> tuple[Tensor, Tensor]:
        """points (1, C, N), lines (1, C, L), biases (N,) and (L,) -> both, updated."""
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            own, other = (points, point_bias), (lines, line_bias)
            for_points, for_lines = (own, other) if kind == "self" else (other, own)
            points, lines = points + layer(points, *for_points), lines + layer(lines, *for_lines)
        return points, lines


class Pl2Map(nn.Module):
    """Descriptors of one image -> scene coordinates (m) and reliabilities (0..1)."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.line_encoder = LineEncoder(channels)
        self.gnn = AttentionalGraph(channels)
        self.mapping_p = regressor(channels, 4)
        self.mapping_l = regressor(channels, 7)

    def forward(
        self, point_descriptors: Tensor, line_tokens: Tensor, point_bias: Tensor, line_bias: Tensor
    ) -> tuple[Tensor, ...]:
        """point_descriptors (N, C), line_tokens (L, 12, C), biases (N,), (L,): 0, or MASKED for padding. N and L
        are at least 1: an image without lines has one of padding
        -> points (N, 3), reliability (N,), lines (L, 2, 3), reliability (L,)."""
        points = point_descriptors.T[None]
        lines = self.line_encoder(line_tokens).T[None]
        points, lines = self.gnn(points, lines, point_bias, line_bias)
        p, q = self.mapping_p(points)[0].T, self.mapping_l(lines)[0].T
        return p[:, :3], reliability(p[:, 3]), torch.stack([q[:, :3], q[:, 3:6]], dim=1), reliability(q[:, 6])


def regressor(channels: int, outputs: int) -> nn.Sequential:
    """Convolutions C -> 512 -> 1024 -> 512 -> outputs, the last of which is the uncertainty."""
    widths = (channels, 512, 1024, 512, outputs)
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv1d(before, after, 1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def reliability(uncertainty: Tensor) -> Tensor:
    """From the uncertainty output: 1 where it is 0, one half where it is 0.01."""
    return 1 / (1 + 100 * uncertainty.abs())
