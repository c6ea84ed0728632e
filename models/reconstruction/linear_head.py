# SPDX-License-Identifier: Apache-2.0
"""A map from tokens by a perceptron that says all pixels of its patch at once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from perception_models.reconstruction.layers import precisely
from perception_models.reconstruction.settings import ReconstructionSettings


class LinearHead(nn.Module):
    """Levels of tokens, of which it takes the last (B, N, D) -> (B, channels, H, W)."""

    def __init__(self, settings: ReconstructionSettings, channels: int) -> None:
        super().__init__()
        self.grid, self.patch = settings.grid, settings.patch
        self.fc1 = nn.Linear(settings.decoder, 4 * settings.decoder)
        self.fc2 = nn.Linear(4 * settings.decoder, channels * self.patch**2)

    def forward(self, levels: Sequence[Tensor], fine: Sequence[Tensor]) -> Tensor:
        """See the class; it has no use for `fine`."""
        pixels = precisely(self.fc2, functional.gelu(self.fc1(levels[-1])))
        cells = pixels.transpose(1, 2).reshape(pixels.shape[0], -1, *self.grid)
        return functional.pixel_shuffle(cells, self.patch)
