# SPDX-License-Identifier: Apache-2.0
"""Layers that encoder and decoder of SAM share, with the parameter names of its checkpoints."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-6  # of the encoder and of every norm over channels of a map


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map (B, C, H, W). One operator in ONNX, so that it stays FP32 as a whole."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TwoLayers(nn.Module):
    """The perceptron of a transformer block, on (..., C)."""

    def __init__(self, channels: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(channels, hidden)
        self.lin2 = nn.Linear(hidden, channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        result: Tensor = self.lin2(self.activation(self.lin1(x)))
        return result


class Perceptron(nn.Module):
    """Linear layers with ReLU between them: (..., widths[0]) -> (..., widths[-1])."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """(..., widths[0]) -> (..., widths[-1])."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        result: Tensor = self.layers[-1](x)
        return result
