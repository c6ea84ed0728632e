# SPDX-License-Identifier: Apache-2.0
"""Kernel point convolution (Thomas et al., ICCV 2019, rigid) and the blocks that GeoTransformer builds of it.

Points and features have a row 0 that is no point: the index of a neighbour that is not there. Rows that are no point,
which also pad to a capacity, have mask 0 and features 0 after each block. Names of parameters are those of the
published checkpoints.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL_POINTS = 15
SLOPE = 0.1


class Neighbourhood(NamedTuple):
    """Where a convolution takes place: queries (M, 3) and points (N, 3) in metres, neighbours (M, H) rows of the
    points, mask (M, 1) of the queries."""

    queries: Tensor
    points: Tensor
    neighbours: Tensor
    mask: Tensor

    def gather(self, values: Tensor) -> Tensor:
        """values (N, C) of the points -> (M, H, C) of the neighbours."""
        rows = self.neighbours.reshape(-1)
        return values.index_select(0, rows).reshape(*self.neighbours.shape, values.shape[1])


class KPConv(nn.Module):
    """Features (N, C) -> (M, D): neighbours weigh in at each kernel point by how near to it they are."""

    kernel_points: Tensor

    def __init__(self, inputs: int, outputs: int, radius: float, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma
        self.weights = nn.Parameter(torch.empty(KERNEL_POINTS, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_uniform_(self.weights, a=math.sqrt(5))
        self.register_buffer("kernel_points", initial_kernel(radius))

    def forward(self, features: Tensor, at: Neighbourhood) -> Tensor:
        """features (N, C) of the points -> (M, D) of the queries."""
        gathered = at.gather(features)
        pooled = self.influence(at) @ gathered  # (M, K, C)
        convolved = pooled.flatten(1) @ self.weights.flatten(0, 1)
        present = (gathered.sum(-1) > 0).to(features.dtype).sum(1, keepdim=True)  # as published: of positive sum
        return convolved / present.clamp(min=1) + self.bias

    def influence(self, at: Neighbourhood) -> Tensor:
        """(M, K, H): 1 for a neighbour on a kernel point, 0 from sigma on, and for one that is not there."""
        offset = at.gather(at.points) - at.queries[:, None]
        kernel = self.kernel_points
        # |o - k|^2 in three parts, because the differences themselves would be three times as large as the result
        squared = (
            offset.square().sum(-1)[:, None] - 2 * kernel @ offset.transpose(1, 2) + kernel.square().sum(1)[:, None]
        )
        there = (at.neighbours > 0).to(offset.dtype)[:, None]
        return (1 - squared.clamp(min=0).sqrt() / self.sigma).clamp(min=0) * there


def initial_kernel(radius: float) -> Tensor:
    """Kernel points (K, 3): the centre and a sphere of two thirds of the radius. Published checkpoints bring theirs."""
    step = torch.arange(KERNEL_POINTS - 1, dtype=torch.float64) + 0.5
    height = 1 - 2 * step / (KERNEL_POINTS - 1)
    turn = step * math.pi * (3 - math.sqrt(5))
    around = torch.sqrt(1 - height**2)
    sphere = torch.stack([around * torch.cos(turn), around * torch.sin(turn), height], dim=1)
    return torch.cat([torch.zeros(1, 3), 0.66 * radius * sphere]).float()


class GroupNorm(nn.Module):
    """Group normalisation over all points (N, C) of both clouds at once, as published, leaving out what is no point."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (N, C), mask (N, 1) -> (N, C), 0 where the mask is."""
        groups = self.norm.num_groups
        grouped = x.reshape(x.shape[0], groups, -1)
        count = mask.sum() * (x.shape[1] // groups)
        weight = mask[:, None]
        mean = (grouped * weight).sum(dim=(0, 2), keepdim=True) / count
        centred = (grouped - mean) * weight
        variance = centred.square().sum(dim=(0, 2), keepdim=True) / count
        normal = (centred * torch.rsqrt(variance + self.norm.eps)).flatten(1)
        return (normal * self.norm.weight + self.norm.bias) * mask


class Unary(nn.Module):
    """Linear map and norm: (N, C) -> (N, D)."""

    def __init__(self, inputs: int, outputs: int, groups: int, activate: bool = True) -> None:
        super().__init__()
        self.mlp = nn.Linear(inputs, outputs)
        self.norm = GroupNorm(groups, outputs)
        self.slope = SLOPE if activate else 1.0

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (N, C), mask (N, 1) -> (N, D)."""
        return functional.leaky_relu(self.norm(self.mlp(x), mask), self.slope)


class ConvBlock(nn.Module):
    """Convolution, norm, activation: (N, C) -> (M, D)."""

    def __init__(self, inputs: int, outputs: int, groups: int, radius: float, sigma: float) -> None:
        super().__init__()
        self.KPConv = KPConv(inputs, outputs, radius, sigma)
        self.norm = GroupNorm(groups, outputs)

    def forward(self, features: Tensor, at: Neighbourhood) -> Tensor:
        """features (N, C) of the points -> (M, D) of the queries."""
        return functional.leaky_relu(self.norm(self.KPConv(features, at), at.mask), SLOPE)


class ResidualBlock(nn.Module):
    """Bottleneck around a convolution; where it has a stride, the shortcut is the largest of the neighbours."""

    def __init__(
        self, inputs: int, outputs: int, groups: int, radius: float, sigma: float, strided: bool = False
    ) -> None:
        super().__init__()
        middle = outputs // 4
        self.strided = strided
        self.unary1 = Unary(inputs, middle, groups) if inputs != middle else None
        self.KPConv = KPConv(middle, middle, radius, sigma)
        self.norm_conv = GroupNorm(groups, middle)
        self.unary2 = Unary(middle, outputs, groups, activate=False)
        self.unary_shortcut = Unary(inputs, outputs, groups, activate=False) if inputs != outputs else None

    def forward(self, features: Tensor, mask: Tensor, at: Neighbourhood) -> Tensor:
        """features (N, C) and mask (N, 1) of the points -> (M, D) of the queries."""
        x = self.unary1(features, mask) if self.unary1 is not None else features
        x = functional.leaky_relu(self.norm_conv(self.KPConv(x, at), at.mask), SLOPE)
        x = self.unary2(x, at.mask)
        shortcut = at.gather(features).amax(1) * at.mask if self.strided else features
        if self.unary_shortcut is not None:
            shortcut = self.unary_shortcut(shortcut, at.mask)
        return functional.leaky_relu(x + shortcut, SLOPE)
