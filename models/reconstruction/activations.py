# SPDX-License-Identifier: Apache-2.0
"""From what a head says to points, confidences, colours and a pose (CUT3R, section 3.1; confidences as in DUSt3R, CVPR
2024, section 3.3). Always computed in FP32: an exponential leaves little of a narrower type.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-8  # keeps the gradient of a square root finite and moderate


def points_and_confidence(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 4, H, W) -> points (B, H, W, 3) in metres, confidence (B, H, W) from 1."""
    maps = maps.float().permute(0, 2, 3, 1)
    return stretched(maps[..., :3]), 1 + maps[..., 3].exp()


def colours(maps: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, H, W, 3), -1 to 1."""
    return 2 * torch.sigmoid(maps.float().permute(0, 2, 3, 1)) - 1


def pose(raw: Tensor) -> Tensor:
    """(B, 7) -> translation in metres, then a unit quaternion w x y z with w >= 0."""
    raw = raw.float()
    quaternion = raw[:, 3:]
    quaternion = quaternion * torch.rsqrt(quaternion.square().sum(-1, keepdim=True) + TINY)
    quaternion = torch.where(quaternion[:, :1] < 0, -quaternion, quaternion)
    return torch.cat([stretched(raw[:, :3]), quaternion], -1)


def stretched(vectors: Tensor) -> Tensor:
    """(..., 3): each keeps its direction, and its length d becomes exp(d) - 1."""
    length = torch.sqrt(vectors.square().sum(-1, keepdim=True) + TINY)
    return vectors * ((length.exp() - 1) / length)  # `expm1` would gain nothing from `TINY` on, and ONNX lacks it
