# SPDX-License-Identifier: Apache-2.0
"""What tells the decoder where a camera may be before it has looked at the state: a memory of images and their pose
tokens (as in CUT3R's released networks). Half of a slot is key, half value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.reconstruction.layers import DecoderBlock
from perception_models.reconstruction.settings import ReconstructionSettings


class PoseMemory(nn.Module):
    """Reads a pose token for an image, and writes the one that the decoder made of it. Slots are (B, M, 2 * D)."""

    def __init__(self, settings: ReconstructionSettings) -> None:
        super().__init__()
        width = settings.decoder
        self.masked_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.mem = nn.Parameter(0.02 * torch.randn(1, settings.memory, 2 * width))
        self.proj_q = nn.Linear(settings.encoder, width)
        self.write_blocks, self.read_blocks = _blocks(settings), _blocks(settings)

    def read(self, key: Tensor, memory: Tensor) -> Tensor:
        """The pose token (B, 1, D) that the memory has for an image's `key`."""
        asked = torch.cat([key, torch.zeros_like(key) + self.masked_token], -1)
        for block in self.read_blocks:
            asked, _ = block(asked, memory)
        return asked[..., key.shape[-1] :]

    def write(self, key: Tensor, pose_token: Tensor, memory: Tensor) -> Tensor:
        """The memory after it has seen an image's `key` and `pose_token`, both (B, 1, D)."""
        pair = torch.cat([key, pose_token], -1)
        for block in self.write_blocks:
            memory, _ = block(memory, pair)
        return memory

    def key(self, tokens: Tensor) -> Tensor:
        """(B, 1, D) of the tokens (B, N, C) of an image."""
        projected: Tensor = self.proj_q(tokens.mean(1, keepdim=True))
        return projected


def _blocks(settings: ReconstructionSettings) -> nn.ModuleList:
    return nn.ModuleList(
        DecoderBlock(2 * settings.decoder, settings.decoder_heads, settings.memory_mlp)
        for _ in range(settings.memory_blocks)
    )
