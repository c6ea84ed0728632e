# SPDX-License-Identifier: Apache-2.0
"""What a mask is worth (Segment Anything, Kirillov et al., ICCV 2023, section A): cross entropy and dice loss of the
best of several masks, and the error of the IoU that was predicted for it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CROSS, DICE, SCORE, OTHERS = 1.0, 1.0, 1.0, 0.05


def mask_loss(logits: Tensor, scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logits (N, M, h, w), scores (N, M), truth (N, h, w) -> loss, IoU (N,) of the mask with the highest score, IoU
    (N, M) of all. Only the best mask learns, and the others a little, so that none dies."""
    target = truth.unsqueeze(1).to(logits.dtype).expand_as(logits)
    each = CROSS * _cross_entropy(logits, target) + DICE * _dice(logits, target)
    with torch.no_grad():
        found = logits > 0
        inside = (found & truth.unsqueeze(1)).sum((2, 3)).float()
        iou = inside / (found | truth.unsqueeze(1)).sum((2, 3)).clamp(min=1)
    score = functional.mse_loss(scores, iou)
    loss = each.min(dim=1).values.mean() + OTHERS * each.mean() + SCORE * score
    chosen = iou.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
    return loss, chosen, iou


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """(N, M): the mean inside the true mask and the mean outside, half and half. By focal loss, which the paper takes,
    a small network first answers nothing at all, and stays there for long."""
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = (each * target).sum((2, 3)) / target.sum((2, 3)).clamp(min=1)
    outside = (each * (1 - target)).sum((2, 3)) / (1 - target).sum((2, 3)).clamp(min=1)
    return (inside + outside) / 2


def _dice(logits: Tensor, target: Tensor) -> Tensor:
    """(N, M), 0 where the masks are the same."""
    probability = logits.sigmoid()
    both = (probability * target).sum((2, 3))
    return 1 - (2 * both + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
