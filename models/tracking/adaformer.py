# SPDX-License-Identifier: Apache-2.0
"""AdaFormer: attention in groups of points that each query deforms to the size of what it sees.

Nie et al., "Towards Category Unification of 3D Single Object Tracking on Point Clouds", ICLR 2024, section 3.2: *group
regression* moves and stretches the group of each query; *vector attention* weighs its points channel by channel. Which
points are nearest cannot be differentiated, so a Gaussian of the deformed distance is part of the weights: what the
group regression learns from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

WIDTH = 16  # in which queries and points are compared
MOST, LEAST = 5.0, 1e-3  # the largest logit of a weight; added to their sum, so that empty groups attend to nothing
SHIFT, STRETCH = 0.5, 1.2  # how far a group moves (units of the size), and log of how much it stretches, at most
RADIUS = 0.25  # of a group that is not deformed
OUT = 1e4  # added to the distance of rows without a point


@dataclass
class Points:
    """A batch of point sets: xyz (B, N, 3), features (B, N, C), empty (B, N) 1 where a row holds no point."""

    xyz: Tensor
    features: Tensor
    empty: Tensor

    def first(self, count: int) -> Points:
        """The first rows."""
        return self.rows(0, count)

    def rows(self, start: int, stop: int) -> Points:
        """Rows from start to stop."""
        return Points(self.xyz[:, start:stop], self.features[:, start:stop], self.empty[:, start:stop])

    @staticmethod
    def joined(a: Points, b: Points) -> Points:
        """Both sets as one."""
        pairs = ((a.xyz, b.xyz), (a.features, b.features), (a.empty, b.empty))
        return Points(*(torch.cat(pair, dim=1) for pair in pairs))


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU in between."""
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class AdaFormerBlock(nn.Module):
    """Features of queries from the points around them: a deformed group each, vector attention in it."""

    def __init__(self, given: int, channels: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.norm = nn.LayerNorm(given)
        self.group = mlp(given, 32, 6)
        # Differences and sums have one bias each: more would be passes over every point of every group.
        self.query, self.value = nn.Linear(given, WIDTH), nn.Linear(given, channels)
        self.key = nn.Linear(given, WIDTH, bias=False)
        self.place = nn.Linear(3, WIDTH)
        self.place_weight = nn.Linear(WIDTH, WIDTH, bias=False)
        self.place_value = nn.Linear(WIDTH, channels, bias=False)
        self.weigh = nn.Linear(WIDTH, channels)
        self.keep = nn.Linear(given, channels)
        self.norm_mixed = nn.LayerNorm(channels)
        self.mix = mlp(channels, 2 * channels, channels)
        nn.init.zeros_(self.group[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.group[-1].bias)  # type: ignore[arg-type]

    def forward(self, queries: Points, points: Points) -> Points:
        """Queries (B, Q, given) among points (B, N, given) -> queries with features (B, Q, channels)."""
        asked, known = self.norm(queries.features), self.norm(points.features)
        centre, scale = self._regress_groups(queries.xyz, asked)
        rows = self._nearest(centre, scale, points)
        offset = ((gather(points.xyz, rows) - centre[:, :, None]) / scale[:, :, None]).clamp(-8, 8)
        far = 0.5 * (offset * offset).sum(dim=-1, keepdim=True) + OUT * gather(points.empty[..., None], rows)
        place = torch.relu(self.place(offset))
        differs = torch.relu(self.query(asked)[:, :, None] - gather(self.key(known), rows) + self.place_weight(place))
        share = torch.exp((self.weigh(differs) - far).clamp(max=MOST))
        values = gather(self.value(known), rows) + self.place_value(place)
        attended = (share * values).sum(dim=2) / (share.sum(dim=2) + LEAST)
        features = self.keep(queries.features) + attended
        return Points(queries.xyz, features + self.mix(self.norm_mixed(features)), queries.empty)

    def _regress_groups(self, xyz: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (B, Q, 3) and scales (B, Q, 3) of the queries' groups."""
        shift, stretch = torch.tanh(self.group(features)).chunk(2, dim=-1)
        return xyz + SHIFT * shift, RADIUS * torch.exp(STRETCH * stretch)

    def _nearest(self, centre: Tensor, scale: Tensor, points: Points) -> Tensor:
        """Rows (B, Q, neighbours) of the points that are nearest by the deformed distance.

        |(p - c) / s|^2 is linear in (p^2, p, 1): one product of matrices. What is the same for a query is left out.
        """
        with torch.no_grad():
            tight = 1.0 / (scale * scale)
            left = torch.cat([tight, -2.0 * centre * tight, torch.ones_like(tight[..., :1])], dim=-1)
            right = torch.cat([points.xyz * points.xyz, points.xyz, OUT * points.empty[..., None]], dim=-1)
            return torch.topk(-(left @ right.transpose(1, 2)), self.neighbours, dim=-1, sorted=False)[1]


def gather(table: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, Q, K) of a table (B, N, C) -> (B, Q, K, C)."""
    batch, count = table.shape[0], table.shape[1]
    first = torch.arange(batch, device=table.device)[:, None, None] * count
    return table.flatten(0, 1)[rows + first]


def spread(values: Points, xyz: Tensor, radius: float) -> Tensor:
    """Features (B, M, C) at places (B, M, 3): means of those near, weighted by a Gaussian of the distance."""
    distance = _squared(xyz, values.xyz)
    share = torch.softmax(-distance / (2 * radius * radius) - OUT * values.empty[:, None], dim=-1)
    return share @ values.features


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (B, M, N), less what is the same for all of b."""
    return (b * b).sum(dim=-1)[:, None] - 2.0 * a @ b.transpose(1, 2)
