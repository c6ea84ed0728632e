# SPDX-License-Identifier: Apache-2.0
"""Dense part of the compact detector: bird's-eye pyramid and centre head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Sequential(*list(conv(channels, channels))[:2])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same shape."""
        return F.relu(x + self.second(self.first(x)))


class BevPyramid(nn.Module):
    """Three scales down and back up; the output has the finest of the three scales (half the pillar grid)."""

    def __init__(self, inputs: int, widths: tuple[int, int, int] = (48, 96, 128)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.fine = nn.Sequential(conv(inputs, fine, 2), Residual(fine))
        self.middle = nn.Sequential(conv(fine, middle, 2), conv(middle, middle))
        self.coarse = nn.Sequential(conv(middle, coarse, 2), Residual(coarse), Residual(coarse))
        self.to_middle = conv(coarse, middle, kernel=1)
        self.merge_middle = conv(middle, middle)
        self.to_fine = conv(middle, fine, kernel=1)
        self.merge_fine = conv(fine, fine)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, widths[0], H / 2, W / 2)."""
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.merge_middle(middle + double(self.to_middle(coarse)))
        return self.merge_fine(fine + double(self.to_fine(middle)))  # type: ignore[no-any-return]


def double(x: Tensor) -> Tensor:
    """Nearest up-sampling by two."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class CentreHead(nn.Module):
    """Heat map of box centres, box parameters and predicted IoU at each cell (CenterPoint's head with an IoU
    branch)."""

    BOX_CHANNELS = 10  # offset x y (cells), z (m), log l w h, sin and cos of twice the yaw, sin and cos of the yaw

    def __init__(self, inputs: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.shared = conv(inputs, width)
        self.heatmap = nn.Conv2d(width, classes, 1)
        self.box = nn.Conv2d(width, self.BOX_CHANNELS, 1)
        self.iou = nn.Conv2d(width, 1, 1)
        nn.init.constant_(self.heatmap.bias, -4.6)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) -> logits of the heat map (B, classes, H, W), box (B, 10, H, W), logits of the IoU (B, 1, H,
        W)."""
        shared = self.shared(x)
        return self.heatmap(shared), self.box(shared), self.iou(shared)


def gather_to_bev(rows: Tensor, bev_rows: Tensor, batch: int, size: int) -> Tensor:
    """Features (P, C) of pillars laid out as a map (B, C, size, size); bev_rows (B * size**2,) is P where no pillar
    is."""
    dense = torch.cat([rows, rows.new_zeros(1, rows.shape[1])]).index_select(0, bev_rows)
    return dense.reshape(batch, size, size, rows.shape[1]).permute(0, 3, 1, 2)
