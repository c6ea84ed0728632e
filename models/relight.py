# SPDX-License-Identifier: Apache-2.0
"""Batches of images under another light and through another lens, for networks that learn from rendered images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def relit(rgb: Tensor) -> Tensor:
    """Images (B, 3, H, W) or sequences of one camera (B, T, 3, H, W), 0 to 1 -> the same shape and range.

    Each image or sequence gets a white balance, saturation and gamma of its own; some are blurred, some are noisy.
    """
    grouped = rgb if rgb.dim() == 5 else rgb.unsqueeze(1)
    balance = _uniform(grouped, 3, 0.75, 1.25)
    grey = grouped.mean(2, keepdim=True)
    image = (grey + (grouped - grey) * _uniform(grouped, 1, 0.3, 1.4)) * balance
    image = image.clamp(0, 1) ** _uniform(grouped, 1, -0.4, 0.4).exp()
    share = _uniform(grouped, 1, 0, 1) * (_uniform(grouped, 1, 0, 1) < 0.5)
    image = torch.lerp(image, _blurred(image), share)
    noise = _uniform(grouped, 1, 0.004, 0.03) * (_uniform(grouped, 1, 0, 1) < 0.5)
    return (image + noise * torch.randn_like(image)).clamp(0, 1).reshape(rgb.shape)


def _uniform(grouped: Tensor, channels: int, low: float, high: float) -> Tensor:
    """A number (B, 1, channels, 1, 1) for each group."""
    return low + (high - low) * torch.rand(len(grouped), 1, channels, 1, 1, device=grouped.device)


def _blurred(image: Tensor) -> Tensor:
    """Through a binomial window of five pixels."""
    window = torch.tensor([1.0, 4, 6, 4, 1], device=image.device) / 16
    planes = functional.pad(image.flatten(0, 2).unsqueeze(1), (2, 2, 2, 2), mode="replicate")
    planes = functional.conv2d(planes, window.view(1, 1, 1, 5))
    return functional.conv2d(planes, window.view(1, 1, 5, 1)).reshape(image.shape)
