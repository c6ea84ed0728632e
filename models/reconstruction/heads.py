# SPDX-License-Identifier: Apache-2.0
"""What is read off a decoded image: points in its own camera's frame and in the world's, colours, pose (CUT3R, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from perception_models.reconstruction.activations import colours, points_and_confidence, pose
from perception_models.reconstruction.dpt_head import DptHead
from perception_models.reconstruction.layers import Mlp, ModulatedBlock, precisely
from perception_models.reconstruction.linear_head import LinearHead
from perception_models.reconstruction.settings import ReconstructionSettings

# What the released checkpoints call the heads of own frame, world's frame and colours.
NAMES = {"dpt": ("dpt_self", "dpt_cross", "dpt_rgb"), "linear": ("proj", "cross_proj", "rgb_proj")}
CHANNELS = 4, 4, 3


class Outputs(NamedTuple):
    """Points (B, H, W, 3) in metres, confidences (B, H, W) from 1, rgb (B, H, W, 3) -1 to 1, pose (B, 7) world from
    camera: translation in metres, then quaternion w x y z with w >= 0."""

    points_self: Tensor  # in the frame of the image's camera
    confidence_self: Tensor
    points: Tensor  # in the frame of the first image's camera
    confidence: Tensor
    rgb: Tensor
    pose: Tensor


class Heads(nn.Module):
    """Reads levels of image tokens and the pose token."""

    def __init__(self, settings: ReconstructionSettings) -> None:
        super().__init__()
        self.names = (*NAMES[settings.head][:2], NAMES[settings.colour][2])
        kinds = settings.head, settings.head, settings.colour
        for name, kind, channels in zip(self.names, kinds, CHANNELS, strict=True):
            self.add_module(name, (DptHead if kind == "dpt" else LinearHead)(settings, channels))
        self.final_transform = nn.ModuleList(
            ModulatedBlock(settings.decoder, settings.decoder_heads) for _ in range(settings.final_blocks)
        )
        self.pose_head = PoseHead(settings.decoder)

    def forward(self, levels: Sequence[Tensor], pose_token: Tensor, fine: Sequence[Tensor], places: Tensor) -> Outputs:
        """`levels`, `pose_token` and `fine` as in `Decoded` and `Encoded`; `places`: table of turns of image tokens."""
        of_self, of_world, of_colour = (self.get_submodule(name) for name in self.names)
        points_self, confidence_self = points_and_confidence(of_self(levels, fine))
        moved = levels[-1]
        for block in self.final_transform:
            moved = block(moved, pose_token, places)
        points, confidence = points_and_confidence(of_world((*levels[:-1], moved), fine))
        rgb = colours(of_colour(levels, fine))
        return Outputs(points_self, confidence_self, points, confidence, rgb, self.pose_head(pose_token))


class PoseHead(nn.Module):
    """Pose token (B, D) -> pose (B, 7), see `Outputs`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = Mlp(width, 4 * width, 7)

    def forward(self, token: Tensor) -> Tensor:
        """See the class."""
        return pose(precisely(self.mlp.fc2, functional.gelu(self.mlp.fc1(token))))
