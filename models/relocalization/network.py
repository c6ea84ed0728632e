# SPDX-License-Identifier: Apache-2.0
"""The compact network of one scene: descriptors of key points and lines -> where they are.

As in PL2Map (ICRA 2024) points and lines go through one graph and each answer has a reliability. What differs was found
by measurement (MODEL_CARD.md): a place is an anchor of the scene and an offset from it, because offsets alone are not
learnt in minutes; nodes hear the mean of what all nodes say instead of each other one, which costs little and helps as
much as attention did; each end of a line is a node that heard the samples along its line.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception_models.relocalization.pl2map import LineLayer

INPUTS = ("descriptors", "point_weight", "line_tokens", "line_weight")
OUTPUTS = ("points", "reliability", "lines", "line_reliability")
CHOICES = 2  # places that are offered for each node
OFFSET_SCALE = 0.1  # metres; about the spacing of anchors in a room


@dataclass(frozen=True)
class NetworkSettings:
    """dimensions: of the descriptors; width, hidden: channels of nodes and of the head; layers: of the graph."""

    dimensions: int = 64
    width: int = 128
    hidden: int = 512
    layers: int = 2


class GraphLayer(nn.Module):
    """Every node hears the mean of what all nodes say: (B, M, C) -> (B, M, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.say = nn.Linear(channels, 2 * channels)
        self.hear = nn.Linear(2 * channels, 2 * channels)
        self.own = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """share (B, M, 1): weights of the mean, 0 for padding."""
        y = self.norm(x)
        heard = (F.gelu(self.say(y)) * share).sum(1, keepdim=True)
        return x + self.out(F.gelu(self.own(y) + self.hear(heard)))  # type: ignore[no-any-return]


class PlaceHead(nn.Module):
    """Which anchor a node belongs to, and where it is from a given anchor."""

    anchors: Tensor

    def __init__(self, channels: int, hidden: int, anchors: Tensor) -> None:
        super().__init__()
        self.register_buffer("anchors", anchors)
        self.trunk = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.scores = nn.Linear(hidden, len(anchors))
        self.code = nn.Embedding(len(anchors), 64)
        self.query = nn.Linear(hidden, 256)
        self.offset = nn.Sequential(nn.Linear(256 + 64, 256), nn.GELU(), nn.Linear(256, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (..., C) -> features (..., hidden), scores (..., A) of the anchors."""
        features = self.trunk(x)
        return features, self.scores(features).float()

    def place(self, features: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """features (..., hidden), anchor (...,) int64 -> place (..., 3) m, natural logarithm of its error's scale over
        OFFSET_SCALE (...,)."""
        code = self.code(anchor)
        raw = self.offset(torch.cat([self.query(features), code.to(features.dtype)], dim=-1)).float()
        return self.anchors[anchor] + OFFSET_SCALE * raw[..., :3], raw[..., 3].clamp(-6, 6)


class SceneNet(nn.Module):
    """The network of a scene whose anchors are given, (A, 3) float32 m."""

    def __init__(self, anchors: Tensor, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.embed = nn.Sequential(nn.Linear(settings.dimensions, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.line = LineLayer(width, 4, 2 * width)
        self.line_end = nn.Parameter(torch.zeros(width))
        self.graph = nn.ModuleList(GraphLayer(width) for _ in range(settings.layers))
        self.head = PlaceHead(width, settings.hidden, anchors)

    def nodes(self, descriptors: Tensor, point_weight: Tensor, line_tokens: Tensor, line_weight: Tensor) -> Tensor:
        """descriptors (B, N, D), line_tokens (B, L, T, D), weights (B, N) and (B, L) -> nodes (B, N + 2 L, C): points,
        then both ends of each line."""
        scale = self.settings.dimensions**0.5  # unit vectors -> entries of about 1
        points = self.embed(descriptors * scale)
        batch, lines, tokens, _ = line_tokens.shape
        along = self.line(self.embed(line_tokens * scale).reshape(batch * lines, tokens, -1))
        ends = torch.stack([along[:, 0], along[:, -1]], dim=1).reshape(batch, 2 * lines, -1) + self.line_end
        weight = torch.cat([point_weight, line_weight.repeat_interleave(2, dim=1)], dim=1)
        share = (weight / weight.sum(1, keepdim=True))[..., None]
        x = torch.cat([points, ends], dim=1)
        for layer in self.graph:
            x = layer(x, share)
        return x

    def forward(
        self, descriptors: Tensor, point_weight: Tensor, line_tokens: Tensor, line_weight: Tensor
    ) -> tuple[Tensor, ...]:
        """One image: descriptors (N, D), line_tokens (L, T, D), weights (N,) and (L,): 1, or 0 for padding; N and L are
        at least 1 -> points (N, CHOICES, 3) m, reliability (N, CHOICES), 0..1; the same of lines (L, 2, CHOICES, 3) and
        (L, 2, CHOICES)."""
        count = descriptors.shape[0]
        inputs = (descriptors, point_weight, line_tokens, line_weight)
        x = self.nodes(*(tensor[None] for tensor in inputs))[0]
        features, scores = self.head(x)
        probability, anchor = torch.softmax(scores, dim=-1).topk(CHOICES, dim=-1)
        spread = features[:, None].expand(-1, CHOICES, -1)
        places, log_scale = self.head.place(spread, anchor)
        reliability = probability / (1 + torch.exp(log_scale))
        return (
            places[:count],
            reliability[:count],
            places[count:].unflatten(0, (-1, 2)),  # type: ignore[no-untyped-call]
            reliability[count:].unflatten(0, (-1, 2)),  # type: ignore[no-untyped-call]
        )
