# SPDX-License-Identifier: Apache-2.0
"""Features of an encoder that learnt from photographs, as an addition to the tokens of an image's patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from perception_models.real_encoder import EIGHTH, SIXTEENTH
from perception_models.reconstruction.layers import shaped


class RealStem(nn.Module):
    """Features (B, 64, H/8, W/8) and (B, 64, H/16, W/16) -> (B, N, width) for cells of 16 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(SIXTEENTH + 4 * EIGHTH, width, 1)

    def forward(self, eighth: Tensor, sixteenth: Tensor) -> Tensor:
        """See the class."""
        cells: Tensor = self.proj(torch.cat([sixteenth, functional.pixel_unshuffle(eighth, 2)], 1))
        return shaped(cells, -1).transpose(1, 2)
