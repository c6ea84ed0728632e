# SPDX-License-Identifier: Apache-2.0
"""A map from tokens of four depths, fused from coarse to fine (Ranftl et al., DPT, ICCV 2021, section 3), with the
parameter names of its published code.

The compact network adds features of convolutions to the two finest levels, as DPT-Hybrid takes its two finest levels
from its convolutional stem (section 3.1): tokens of 16 pixels alone do not tell where an edge is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from perception_models.real_encoder import EIGHTH, QUARTER
from perception_models.reconstruction.layers import precisely
from perception_models.reconstruction.settings import ReconstructionSettings


class DptHead(nn.Module):
    """Four levels of tokens (B, N, C), `fine` features at 1/4 and 1/8 or none -> (B, channels, H, W)."""

    def __init__(self, settings: ReconstructionSettings, channels: int) -> None:
        super().__init__()
        features, last = settings.features, settings.last
        self.grid = settings.grid
        self.act_postprocess = _reassembling(settings)
        self.fine = nn.ModuleList()
        if settings.real:
            pairs = zip((QUARTER, EIGHTH), settings.layers, strict=False)
            self.fine.extend(nn.Conv2d(real, layer, 1) for real, layer in pairs)
        self.scratch = Scratch(settings)
        self.head = nn.Sequential(
            nn.Conv2d(features, features // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(features // 2, last, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(last, channels, 1),
        )

    def forward(self, levels: Sequence[Tensor], fine: Sequence[Tensor]) -> Tensor:
        """See the class."""
        maps = [
            reassemble(tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *self.grid))
            for reassemble, tokens in zip(self.act_postprocess, levels, strict=True)
        ]
        for level, (convolution, features) in enumerate(zip(self.fine, fine, strict=True)):
            maps[level] = maps[level] + convolution(features)
        return precisely(self.head[-1], self.head[:-1](self.scratch(maps)))


def _reassembling(settings: ReconstructionSettings) -> nn.ModuleList:
    """Tokens of a level, as a map at 1/16, to the resolution and channels of this level."""
    first, second, third, fourth = settings.layers
    width = settings.decoder
    return nn.ModuleList(
        [
            nn.Sequential(nn.Conv2d(settings.encoder, first, 1), nn.ConvTranspose2d(first, first, 4, 4)),
            nn.Sequential(nn.Conv2d(width, second, 1), nn.ConvTranspose2d(second, second, 2, 2)),
            nn.Sequential(nn.Conv2d(width, third, 1)),
            nn.Sequential(nn.Conv2d(width, fourth, 1), nn.Conv2d(fourth, fourth, 3, 2, 1)),
        ]
    )


class Scratch(nn.Module):
    """Maps at 1/4, 1/8, 1/16, 1/32 -> features (B, F, H/2, W/2)."""

    def __init__(self, settings: ReconstructionSettings) -> None:
        super().__init__()
        features = settings.features
        convolutions = [nn.Conv2d(layer, features, 3, padding=1, bias=False) for layer in settings.layers]
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = convolutions
        self.layer_rn = nn.ModuleList(convolutions)  # once more: the checkpoints name them twice
        self.refinenet1, self.refinenet2 = Fusion(features), Fusion(features)
        self.refinenet3, self.refinenet4 = Fusion(features), Fusion(features)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """See the class."""
        first, second, third, fourth = (layer(x) for layer, x in zip(self.layer_rn, maps, strict=True))
        path = self.refinenet4(fourth)
        path = self.refinenet3(path, third)
        path = self.refinenet2(path, second)
        result: Tensor = self.refinenet1(path, first)
        return result


class Fusion(nn.Module):
    """What came from coarser levels (B, F, h, w), and this level's features -> (B, F, 2 * h, 2 * w)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1, self.resConfUnit2 = Residual(features), Residual(features)

    def forward(self, path: Tensor, beside: Tensor | None = None) -> Tensor:
        """See the class. The coarsest level has nothing beside it, and leaves the first unit unused."""
        if beside is not None:
            path = path + self.resConfUnit1(beside)
        # Published the other way round, with the same result, as both are linear; this way computes a quarter.
        path = self.out_conv(self.resConfUnit2(path))
        return functional.interpolate(path, scale_factor=2.0, mode="bilinear", align_corners=True)


class Residual(nn.Module):
    """Two convolutions beside a shortcut, each behind a ReLU; keeps the shape."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        result: Tensor = x + self.conv2(functional.relu(self.conv1(functional.relu(x))))
        return result
