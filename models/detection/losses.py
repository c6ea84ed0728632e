# SPDX-License-Identifier: Apache-2.0
"""Losses of the centre head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perception_models.detection.box_coding import decode
from perception_models.detection.data import Batch
from perception_models.detection.settings import DetectionSettings
from perception_models.geometry.boxes import iou_3d

CODE_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.3)


def detection_loss(
    outputs: tuple[Tensor, Tensor, Tensor], batch: Batch, settings: DetectionSettings
) -> tuple[Tensor, dict[str, float]]:
    """Sum of heat map, box and IoU losses, and its parts. Outputs as `CompactDetector.forward` gives them."""
    heatmap, box, iou = (out.float() for out in outputs)
    focal = focal_loss(heatmap, batch.heatmap, batch.learn)
    code = box.permute(0, 2, 3, 1).reshape(-1, box.shape[1])[batch.cells]
    objects = batch.weights.sum().clamp(min=1)
    weight = batch.weights[:, None] * code.new_tensor(CODE_WEIGHTS)
    regression = (F.smooth_l1_loss(code, batch.codes, reduction="none", beta=0.05) * weight).sum() / objects
    overlap = ((1 - aligned_iou(code, batch.codes, settings)) * batch.weights).sum() / objects
    quality = _true_iou(code, batch, settings)
    predicted = iou.flatten()[batch.cells]
    iou_loss = (
        F.binary_cross_entropy_with_logits(predicted, quality, reduction="none") * batch.weights
    ).sum() / objects
    total = focal + 2 * regression + 2 * overlap + 0.5 * iou_loss
    parts = {"heat": focal, "code": regression, "overlap": overlap, "iou": iou_loss}
    return total, {name: float(value.detach()) for name, value in parts.items()}


def focal_loss(logits: Tensor, heat: Tensor, learn: Tensor) -> Tensor:
    """Penalty-reduced focal loss (CornerNet) over heat maps (B, C, H, W); `learn` (B, H, W) is 0 where nothing is
    learnt."""
    probability = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    peak = (heat > 0.999).float()
    found = -torch.log(probability) * (1 - probability) ** 2 * peak
    other = -torch.log(1 - probability) * probability**2 * (1 - heat) ** 4 * (1 - peak)
    total: Tensor = ((found + other) * learn[:, None]).sum() / peak.sum().clamp(min=1)
    return total


def aligned_iou(code: Tensor, target: Tensor, settings: DetectionSettings) -> Tensor:
    """3D IoU (M,) of coded boxes in the frame of the true box, as if their yaws agreed: a smooth stand-in for the
    rotated IoU."""
    side = settings.grid.cell * settings.stride
    axis = torch.atan2(target[:, 8], target[:, 9])
    dx, dy = ((code[:, k] - target[:, k]) * side for k in (0, 1))
    cos, sin = axis.cos(), axis.sin()
    offset = torch.stack([dx * cos + dy * sin, dy * cos - dx * sin, code[:, 2] - target[:, 2]], dim=1).abs()
    size, true_size = code[:, 3:6].clamp(-3, 4).exp(), target[:, 3:6].exp()
    shared = torch.minimum((size + true_size) / 2 - offset, torch.minimum(size, true_size)).clamp(min=0).prod(dim=1)
    return shared / (size.prod(dim=1) + true_size.prod(dim=1) - shared)


@torch.no_grad()
def _true_iou(code: Tensor, batch: Batch, settings: DetectionSettings) -> Tensor:
    """Exact rotated 3D IoU (M,) of each regressed box with its own true box."""
    if len(batch.cells) == 0:
        return code.new_zeros(0)
    boxes = decode(code.numpy(), batch.centres, settings)
    return torch.from_numpy(np.diagonal(iou_3d(boxes, batch.boxes)).astype(np.float32))
