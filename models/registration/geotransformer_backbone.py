# SPDX-License-Identifier: Apache-2.0
"""KPConv-FPN, the backbone of GeoTransformer (CVPR 2022, section 3.1): points -> fine features and super-points.

Names of parameters are those of the published checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception_models.registration.geotransformer_settings import GeoTransformerSettings
from perception_models.registration.kpconv import ConvBlock, Neighbourhood, ResidualBlock, Unary


class Pyramid(NamedTuple):
    """Both clouds, one after the other, by stage; row 0 is no point, and the index of what is not there.

    points (N, 3) m, mask (N, 1), neighbours (N, H); one fewer each: pooling (M, H) rows of this stage around points of
    the next, coarser one; upsampling (N,) rows of the next stage.
    """

    points: list[Tensor]
    mask: list[Tensor]
    neighbours: list[Tensor]
    pooling: list[Tensor]
    upsampling: list[Tensor]

    def within(self, stage: int) -> Neighbourhood:
        """Around the points of a stage."""
        return Neighbourhood(self.points[stage], self.points[stage], self.neighbours[stage], self.mask[stage])

    def between(self, stage: int) -> Neighbourhood:
        """Points of `stage` around those of the next."""
        coarse = stage + 1
        return Neighbourhood(self.points[coarse], self.points[stage], self.pooling[stage], self.mask[coarse])


class Last(nn.Module):
    """Linear map alone: (N, C) -> (N, D)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mlp = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (N, C), mask (N, 1) -> (N, D)."""
        return self.mlp(x) * mask  # type: ignore[no-any-return]


class Backbone(nn.Module):
    """Encoder of 2, then 3 blocks a stage, which double the channels; decoder down to the fine stage."""

    def __init__(self, settings: GeoTransformerSettings) -> None:
        super().__init__()
        self.stages, self.fine_stage = settings.stages, settings.fine_stage
        groups, width = settings.groups, settings.width
        reach = [(settings.radius * 2**stage, settings.sigma * 2**stage) for stage in range(self.stages)]
        self.encoder1_1 = ConvBlock(1, width, groups, *reach[0])
        self.encoder1_2 = ResidualBlock(width, 2 * width, groups, *reach[0])
        for stage in range(1, self.stages):
            given = width * 2**stage
            first = ResidualBlock(given, given, groups, *reach[stage - 1], strided=True)
            second = ResidualBlock(given, 2 * given, groups, *reach[stage])
            third = ResidualBlock(2 * given, 2 * given, groups, *reach[stage])
            for block, module in enumerate((first, second, third), start=1):
                self.add_module(f"encoder{stage + 1}_{block}", module)
        for stage in range(self.fine_stage, self.stages - 1):
            given = width * 2 ** (stage + 1)
            last = stage == self.fine_stage
            decoder = Last(3 * given, settings.channels) if last else Unary(3 * given, given, groups)
            self.add_module(f"decoder{stage + 1}", decoder)

    def forward(self, pyramid: Pyramid) -> tuple[Tensor, Tensor]:
        """-> features of the fine stage (N, channels) and of the coarsest (S, coarse_channels)."""
        encoded = self._encode(pyramid)
        latent = encoded[-1]
        for stage in range(self.stages - 2, self.fine_stage - 1, -1):
            above = latent.index_select(0, pyramid.upsampling[stage])
            both = torch.cat([above, encoded[stage]], dim=1)
            latent = self._block(f"decoder{stage + 1}")(both, pyramid.mask[stage])
        return latent, encoded[-1]

    def _encode(self, pyramid: Pyramid) -> list[Tensor]:
        x = self.encoder1_1(pyramid.mask[0], pyramid.within(0))  # the feature of a point is 1: it is there
        encoded = [self.encoder1_2(x, pyramid.mask[0], pyramid.within(0))]
        for stage in range(1, self.stages):
            fine, mask = pyramid.mask[stage - 1], pyramid.mask[stage]
            x = self._block(f"encoder{stage + 1}_1")(encoded[-1], fine, pyramid.between(stage - 1))
            for block in (2, 3):
                x = self._block(f"encoder{stage + 1}_{block}")(x, mask, pyramid.within(stage))
            encoded.append(x)
        return encoded

    def _block(self, name: str) -> nn.Module:
        return self.get_submodule(name)
