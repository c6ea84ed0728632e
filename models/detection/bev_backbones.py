# SPDX-License-Identifier: Apache-2.0
"""The dense parts of the official DSVT and FlatFormer detectors: pillar encoders, bird's-eye backbones, centre heads.

Parameter names and shapes are those of the published checkpoints, so layers that do the same carry two names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

# Of both reference configurations, wherever they do not leave the normalisation at its default.
NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.01


class PointLayer(nn.Module):
    """Linear, batch norm, ReLU on each point: (P, inputs) -> (P, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(outputs, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)
        self.linear = nn.Linear(inputs, outputs, bias=False)

    def forward(self, points: Tensor) -> Tensor:
        return self.norm(self.linear(points)).relu()  # type: ignore[no-any-return]


def run_maximum(values: Tensor, last: Tensor, doublings: int) -> Tensor:
    """values (P, C), last (P,) the index of the last row of each row's run -> the maximum from there to the run's end.

    Every step doubles how far a row has looked ahead, so runs of up to 2 ** doublings rows are covered without a
    scatter-maximum, which TensorRT lacks.
    """
    rows = torch.arange(values.shape[0], device=values.device)
    for step in range(doublings):
        values = torch.maximum(values, values[torch.minimum(rows + 2**step, last)])
    return values


class DynamicPillarVfe(nn.Module):
    """Pillar encoder: two point layers with a maximum over each pillar after both. Names as in DSVT."""

    def __init__(self, channels: int, doublings: int, features: int = 11) -> None:
        super().__init__()
        self.doublings = doublings
        self.pfn_layers = nn.ModuleList([PointLayer(features, channels // 2), PointLayer(channels, channels)])

    def forward(self, points: Tensor, last: Tensor, first: Tensor, pillar: Tensor) -> Tensor:
        """points: (P, features), sorted by pillar; last: (P,) last row of the pillar of each point; first: (N,) first
        row of each pillar; pillar: (P,) pillar of each point. Returns (N, channels).
        """
        return _encode_pillars(self.pfn_layers, points, last, first, pillar, self.doublings)


class DynamicVfe(nn.Module):
    """The same pillar encoder under FlatFormer's names."""

    def __init__(self, channels: int, doublings: int, features: int = 11) -> None:
        super().__init__()
        self.doublings = doublings
        self.vfe_layers = nn.ModuleList([PointLayer(features, channels // 2), PointLayer(channels, channels)])

    def forward(self, points: Tensor, last: Tensor, first: Tensor, pillar: Tensor) -> Tensor:
        """As `DynamicPillarVfe.forward`."""
        return _encode_pillars(self.vfe_layers, points, last, first, pillar, self.doublings)


def _encode_pillars(
    layers: nn.ModuleList, points: Tensor, last: Tensor, first: Tensor, pillar: Tensor, doublings: int
) -> Tensor:
    local = layers[0](points)
    context = run_maximum(local, last, doublings)[first][pillar]
    return run_maximum(layers[1](torch.cat([local, context], dim=1)), last, doublings)[first]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _resample(inputs: int, outputs: int, scale: float) -> nn.Sequential:
    """Learned change of resolution: a transposed convolution up (or level), a strided convolution down."""
    stride = round(scale if scale >= 1 else 1 / scale)
    layer = nn.ConvTranspose2d if scale >= 1 else nn.Conv2d
    return nn.Sequential(layer(inputs, outputs, stride, stride, bias=False), _norm(outputs), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a residual; the first block of a level projects it.

    (B, inputs, H, W) -> (B, outputs, H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, project: bool = False) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, stride)
        self.bn1 = _norm(outputs)
        self.conv2 = _conv(outputs, outputs)
        self.bn2 = _norm(outputs)
        if project:
            self.downsample_layer = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs))
        else:
            self.downsample_layer = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample_layer(x)).relu()  # type: ignore[no-any-return]


class ResidualBevBackbone(nn.Module):
    """DSVT's bird's-eye backbone: three levels of residual blocks, brought to one resolution and joined.

    (B, inputs, H, W) -> (B, 384, H * scales[0], W * scales[0]).
    """

    def __init__(self, inputs: int, scales: tuple[float, float, float] = (1, 2, 4)) -> None:
        super().__init__()
        filters, strides, repeats = (128, 128, 256), (1, 2, 2), (1, 2, 2)
        self.blocks = nn.ModuleList()
        for before, after, stride, repeat in zip((inputs, *filters[:-1]), filters, strides, repeats, strict=True):
            level = [ResidualBlock(before, after, stride, project=True)]
            level += [ResidualBlock(after, after) for _ in range(repeat)]
            self.blocks.append(nn.Sequential(*level))
        levels = zip(filters, scales, strict=True)
        self.deblocks = nn.ModuleList(_resample(channels, 128, scale) for channels, scale in levels)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for block, deblock in zip(self.blocks, self.deblocks, strict=True):
            x = block(x)
            levels.append(deblock(x))
        return torch.cat(levels, dim=1)


class Second(nn.Module):
    """FlatFormer's bird's-eye backbone: two levels of four convolutions.

    (B, inputs, H, W) -> (B, 64, H, W) and (B, 128, H / 2, W / 2).
    Convolutions that keep the shape have a residual, added after the ReLU. The reference notes say "residual" without
    saying where it joins: this placement has no published weights to check it against.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for before, after, stride in ((inputs, 64, 1), (64, 128, 2)):
            units = [_plain_unit(before, after, stride)] + [_plain_unit(after, after) for _ in range(3)]
            self.blocks.append(nn.ModuleList(units))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for block in self.blocks:
            first, *rest = cast(nn.ModuleList, block)
            x = first(x)
            for unit in rest:
                x = x + unit(x)
            levels.append(x)
        return levels


class SecondFpn(nn.Module):
    """FlatFormer's neck: both levels brought to the finer resolution and joined, (B, 256, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.deblocks = nn.ModuleList([_resample(64, 128, 1), _resample(128, 128, 2)])

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        resampled = [deblock(level) for deblock, level in zip(self.deblocks, levels, strict=True)]
        return torch.cat(resampled, dim=1)


def _plain_unit(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, stride), _norm(outputs), nn.ReLU())


def _named_unit(inputs: int, outputs: int) -> nn.Sequential:
    """The same with the names `conv` and `bn`, and the normalisation at its default, as in FlatFormer's head."""
    return nn.Sequential(OrderedDict(conv=_conv(inputs, outputs), bn=nn.BatchNorm2d(outputs), relu=nn.ReLU()))


def _branches(outputs: Mapping[str, int], unit: Callable[[int, int], nn.Module]) -> nn.ModuleDict:
    """One small network for each output of a centre head, 64 channels in."""
    return nn.ModuleDict(
        {name: nn.Sequential(unit(64, 64), nn.Conv2d(64, channels, 3, padding=1)) for name, channels in outputs.items()}
    )


class DsvtCenterHead(nn.Module):
    """DSVT's centre head with an IoU branch: (B, 384, H, W) -> raw maps (B, channels, H, W) by output name."""

    def __init__(self, inputs: int = 384) -> None:
        super().__init__()
        self.shared_conv = _plain_unit(inputs, 64)
        outputs = {"center": 2, "center_z": 1, "dim": 3, "rot": 2, "iou": 1, "hm": 3}
        self.heads_list = nn.ModuleList([_branches(outputs, _plain_unit)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        shared = self.shared_conv(x)
        return {name: branch(shared) for name, branch in self.heads_list[0].items()}  # type: ignore[operator]


class FlatFormerCenterHead(nn.Module):
    """FlatFormer's centre head (it predicts a velocity too): (B, 256, H, W) -> raw maps by output name."""

    def __init__(self, inputs: int = 256) -> None:
        super().__init__()
        self.shared_conv = _named_unit(inputs, 64)
        outputs = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "iou": 1, "heatmap": 3}
        self.task_heads = nn.ModuleList([_branches(outputs, _named_unit)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        shared = self.shared_conv(x)
        return {name: branch(shared) for name, branch in self.task_heads[0].items()}  # type: ignore[operator]
