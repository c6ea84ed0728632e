# SPDX-License-Identifier: Apache-2.0
"""SuperPoint (DeTone et al., CVPR Workshops 2018) with the parameter names of its checkpoint.

Only the layout: the published weights are Magic Leap's, for non-commercial research, and do not come with this project.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL = 8
INPUTS = ("image",)
OUTPUTS = ("heat", "descriptors")


class SuperPoint(nn.Module):
    """A grey image -> where its key points are, and what describes each cell of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 64, 64, 128, 128)
        for number, (before, after) in enumerate(zip(widths, widths[1:], strict=False), start=1):
            setattr(self, f"conv{number}a", nn.Conv2d(before, after, 3, padding=1))
            setattr(self, f"conv{number}b", nn.Conv2d(after, after, 3, padding=1))
        self.convPa = nn.Conv2d(128, 256, 3, padding=1)
        self.convPb = nn.Conv2d(256, CELL * CELL + 1, 1)
        self.convDa = nn.Conv2d(128, 256, 3, padding=1)
        self.convDb = nn.Conv2d(256, 256, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (1, 1, H, W), 0..1, H and W multiples of 8 -> heat (1, 1, H, W), probability of a key point at
        each pixel; descriptors (1, 256, H/8, W/8), not yet of unit length."""
        x = image
        for number in range(1, 5):
            x = F.relu(getattr(self, f"conv{number}a")(x))
            x = F.relu(getattr(self, f"conv{number}b")(x))
            x = F.max_pool2d(x, 2) if number < 4 else x
        # The last channel says "no key point in this cell".
        heat = torch.softmax(self.convPb(F.relu(self.convPa(x))), dim=1)[:, :-1]
        descriptors = self.convDb(F.relu(self.convDa(x)))
        return F.pixel_shuffle(heat, CELL), descriptors
