# SPDX-License-Identifier: Apache-2.0
"""All-to-all cost volume of RegFormer (Liu et al., ICCV 2023): each super-point looks at all of the other cloud.

Its checkpoint tells the widths of the layers, not what they are for. Decided here: pairs are embedded with their
relation and four similarities (`convs_1`), as in HRegNet's coarse registration (ICCV 2021, section 3.2); the target
looks back at the source with them (`convs_2` weighs, `pi_reverse_encoding` encodes); the source then looks at the
target as in the other cost volumes, knowing what the target saw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.registration.regformer_points import (
    CostVolume,
    Grid,
    PointConv,
    Reach,
    neighbours,
    own_cells,
    relation,
    weighted,
)

SIMILARITIES = 4
EVERYTHING = Reach((1, 1), 0.0, 1)  # no window: all pairs are candidates


class AllToAll(CostVolume):
    """Cost of each point of the source among all points of the target."""

    def __init__(self, channels: int, patch: Reach) -> None:
        super().__init__(channels, EVERYTHING, patch, pair=64)
        self.convs_1 = normalised(2 * channels + 10 + SIMILARITIES, 128, 128, 64)
        self.convs_2 = normalised(64 + SIMILARITIES, 64, 64, 64)
        self.pi_reverse_encoding = PointConv(64, 64)

    def forward_all(self, source: Grid, target: Grid) -> Tensor:
        """Both with features (N, channels) -> cost (N, 64)."""
        size = source.points.shape[0], target.points.shape[0]
        between = relation(source.points[:, None], target.points[None])
        own, theirs = source.features[:, None].expand(*size, -1), target.features[None].expand(*size, -1)
        seen = self._look_back(own, theirs, between, self._similarities(source, target), source.mask[:, None])
        given = torch.cat([between, own, theirs, seen.expand(*size, -1)], dim=-1)
        return self.smooth(source, self.cost(given, between, target.mask[None].expand(*size, -1)))

    def _look_back(self, own: Tensor, theirs: Tensor, between: Tensor, alike: Tensor, mask: Tensor) -> Tensor:
        """What each point of the target sees of the source: (1, M, 64)."""
        pairs = on_pairs(self.convs_1, torch.cat([own, theirs, between, alike], dim=-1))
        logits = on_pairs(self.convs_2, torch.cat([pairs, alike], dim=-1))
        return self.pi_reverse_encoding(weighted(pairs, logits, mask, axis=0)[None])  # type: ignore[no-any-return]

    def _similarities(self, source: Grid, target: Grid) -> Tensor:
        """Of features, then of the means of patches, each relative to the best of its row and of its column:
        (N, M, 4)."""
        both = self._patch_means(source), self._patch_means(target)
        alike = cosines(source.features, target.features), cosines(*both)
        mask = source.mask * target.mask.T
        return torch.stack([part for each in alike for part in relative(each * mask)], dim=-1)

    def _patch_means(self, grid: Grid) -> Tensor:
        near = neighbours(grid.points, own_cells(grid), grid, self.patch)
        total = (near.gather(grid.features) * near.present).sum(1)
        return total / near.present.sum(1).clamp(min=1)


def normalised(inputs: int, *widths: int) -> nn.Sequential:
    """Linear maps of channels without bias, batch normalisation and ReLU."""
    steps = zip((inputs, *widths), widths, strict=False)
    layers = [(nn.Conv2d(*step, 1, bias=False), nn.BatchNorm2d(step[1]), nn.ReLU()) for step in steps]
    return nn.Sequential(*(layer for step in layers for layer in step))


def on_pairs(layers: nn.Sequential, x: Tensor) -> Tensor:
    """x (N, M, C) -> (N, M, D)."""
    return layers(x.permute(2, 0, 1)[None])[0].permute(1, 2, 0)  # type: ignore[no-any-return]


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines (N, M) of rows (N, C) and (M, C), in 0..1."""
    unit = [x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-12) for x in (first, second)]
    return (1 + unit[0] @ unit[1].T) / 2


def relative(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (N, M), not negative, divided by the largest of its row, and of its column."""
    return x / (x.amax(1, keepdim=True) + 1e-6), x / (x.amax(0, keepdim=True) + 1e-6)
