# SPDX-License-Identifier: Apache-2.0
"""Point layers of RegFormer (Liu et al., ICCV 2023): neighbours are looked for in a window of the cylinder image.

Set convolutions gather neighbours, set up-convolutions bring coarse features to fine points (PointNet++), and cost
volumes say how well points of two clouds go together (PWCLO-Net, CVPR 2021). Names of parameters are those of its
checkpoint. Open in the published facts and decided here: the nearest points of a window are taken, not random ones;
every layer ends in ReLU; all sizes of windows but those of the first set convolution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception_models.registration.regformer_swin import EMPTY, Shape, cells_of

FAR = 1e8  # m^2; of what is no neighbour


class Grid(NamedTuple):
    """An image of points, row by row: points (H*W, 3) m, mask (H*W, 1), features (H*W, C), and shape (H, W)."""

    points: Tensor
    mask: Tensor
    features: Tensor
    shape: Shape


class Reach(NamedTuple):
    """How far neighbours may be: window (rows, columns) in cells, distance in metres; at most how many are taken."""

    window: Shape
    distance: float
    most: int


class Neighbours(NamedTuple):
    """Rows (N, K) of a grid, and present (N, K, 1): 1 where there is a neighbour, 0 where the row means nothing."""

    rows: Tensor
    present: Tensor

    def gather(self, values: Tensor) -> Tensor:
        """values (M, C) of the grid -> (N, K, C)."""
        return take(values, self.rows)


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (N, K) of values (M, C) -> (N, K, C)."""
    return values.index_select(0, rows.reshape(-1)).reshape(*rows.shape, values.shape[1])


def neighbours(centres: Tensor, cells: Tensor, grid: Grid, reach: Reach) -> Neighbours:
    """The nearest points of the grid to centres (N, 3), within the window around cells (N, 2) of row and column."""
    height, width = grid.shape
    offsets = cells_of(reach.window, cells.device) - cells.new_tensor([size // 2 for size in reach.window])
    rows, columns = (cells[:, None] + offsets).unbind(-1)  # (N, window)
    near = rows.clamp(0, height - 1) * width + columns.remainder(width)  # the image closes behind the sensor
    there = ((rows >= 0) & (rows < height)).to(centres.dtype) * take(grid.mask, near)[..., 0]
    squared = (take(grid.points, near) - centres[:, None]).square().sum(-1)
    nearest, order = (squared + FAR * (1 - there)).topk(reach.most, dim=1, largest=False)
    return Neighbours(near.gather(1, order), (nearest <= reach.distance**2).to(centres.dtype)[..., None])


def own_cells(grid: Grid) -> Tensor:
    """Row and column (H*W, 2) of each cell of the grid."""
    return cells_of(grid.shape, grid.points.device)


class PointConv(nn.Module):
    """Linear map of channels, batch normalisation, ReLU: (..., C) -> (..., D)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)
        self.bn_linear = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, K, C) -> (N, K, D)."""
        image = x.permute(2, 0, 1)[None]
        return torch.relu(self.bn_linear(self.conv(image)))[0].permute(1, 2, 0)


def stack(inputs: int, *widths: int) -> nn.Sequential:
    """Point convolutions, one after the other."""
    return nn.Sequential(*(PointConv(*pair) for pair in zip((inputs, *widths), widths, strict=False)))


def largest(x: Tensor, present: Tensor) -> Tensor:
    """x (N, K, C), not negative -> (N, C), the largest over the neighbours that are present; 0 without any."""
    return (x * present).amax(1)


def weighted(x: Tensor, logits: Tensor, present: Tensor, axis: int = 1) -> Tensor:
    """x (N, K, C) averaged over an axis, with the softmax of logits (N, K, C) over what is present; 0 without any."""
    weights = torch.softmax(logits + (1 - present) * EMPTY, dim=axis) * present
    return (weights * x).sum(axis)


def relation(first: Tensor, second: Tensor) -> Tensor:
    """Points, offset and distance (..., 10) of points that broadcast against each other, (..., 3)."""
    offset = second - first
    distance = (offset.square().sum(-1, keepdim=True) + 1e-12).sqrt()  # never 0: its gradient would not be finite
    return torch.cat([first.expand_as(offset), second.expand_as(offset), offset, distance], dim=-1)


class SetConv(nn.Module):
    """Features of the neighbours of centres -> (N, D)."""

    def __init__(self, inputs: int, widths: tuple[int, ...], reach: Reach) -> None:
        super().__init__()
        self.reach = reach
        self.mlp_convs = stack(inputs + 3, *widths)

    def forward(self, centres: Tensor, mask: Tensor, cells: Tensor, grid: Grid) -> Tensor:
        """centres (N, 3) with mask (N, 1) and their cells (N, 2) in the grid -> (N, D), 0 where the mask is."""
        near = neighbours(centres, cells, grid, self.reach)
        given = torch.cat([near.gather(grid.points) - centres[:, None], near.gather(grid.features)], dim=-1)
        return largest(self.mlp_convs(given), near.present) * mask


class SetUpconv(nn.Module):
    """Coarse features (M, 64) -> (N, 64) of finer points, joined with features of their own."""

    def __init__(self, own: int, reach: Reach) -> None:
        super().__init__()
        self.reach = reach
        self.mlp_conv = stack(64 + 3, 128, 64)
        self.mlp2_conv = stack(64 + own, 64)

    def forward(self, fine: Grid, cells: Tensor, coarse: Grid) -> Tensor:
        """cells (N, 2): where the fine points are in the coarse grid, whose features are brought up -> (N, 64)."""
        near = neighbours(fine.points, cells, coarse, self.reach)
        offset = near.gather(coarse.points) - fine.points[:, None]
        above = largest(self.mlp_conv(torch.cat([offset, near.gather(coarse.features)], dim=-1)), near.present)
        return self.mlp2_conv(torch.cat([above, fine.features], dim=-1)[:, None])[:, 0]  # type: ignore[no-any-return]


class FlowPredictor(nn.Module):
    """What is known of a point, joined -> (N, 64)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.mlp_conv = stack(inputs, 128, 64)

    def forward(self, *parts: Tensor) -> Tensor:
        """parts (N, C_i) -> (N, 64)."""
        return self.mlp_conv(torch.cat(parts, dim=-1)[:, None])[:, 0]  # type: ignore[no-any-return]


class CostVolume(nn.Module):
    """How points of the source go together with those of the target, by attention in two steps: over candidates in the
    target, then over neighbours in the source."""

    def __init__(self, channels: int, candidates: Reach, patch: Reach, pair: int = 0) -> None:
        super().__init__()
        self.candidates, self.patch = candidates, patch
        self.mlp1_convs = stack(10 + 2 * channels + pair, 128, 64, 64)
        self.pi_encoding = PointConv(10, 64)
        self.mlp2_convs = stack(128, 128, 64)
        self.pc_encoding = PointConv(10, 64)
        self.mlp2_convs_new = stack(128 + channels, 128, 64)

    def forward(self, source: Grid, cells: Tensor, target: Grid) -> Tensor:
        """Source with points in the target's frame and their cells (N, 2) in the target -> cost (N, 64)."""
        near = neighbours(source.points, cells, target, self.candidates)
        between = relation(source.points[:, None], near.gather(target.points))
        own = source.features[:, None].expand(-1, near.rows.shape[1], -1)
        given = torch.cat([between, own, near.gather(target.features)], dim=-1)
        return self.smooth(source, self.cost(given, between, near.present))

    def cost(self, given: Tensor, between: Tensor, present: Tensor) -> Tensor:
        """What is known of pairs (N, K, C), their relation (N, K, 10), present (N, K, 1) -> cost (N, 64)."""
        pairs = self.mlp1_convs(given)
        logits = self.mlp2_convs(torch.cat([self.pi_encoding(between), pairs], dim=-1))
        return weighted(pairs, logits, present)

    def smooth(self, source: Grid, cost: Tensor) -> Tensor:
        """Costs (N, 64) of points -> of their neighbourhoods, 0 where there is no point."""
        near = neighbours(source.points, own_cells(source), source, self.patch)
        costs = near.gather(cost)
        encoded = self.pc_encoding(relation(source.points[:, None], near.gather(source.points)))
        own = source.features[:, None].expand(-1, near.rows.shape[1], -1)
        logits = self.mlp2_convs_new(torch.cat([encoded, own, costs], dim=-1))
        return weighted(costs, logits, near.present) * source.mask
