# SPDX-License-Identifier: Apache-2.0
"""Tiny reconstruction networks with random weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from perception_models.onnx_export import rounded
from perception_models.real_encoder import real_encoder
from perception_models.reconstruction.network import ReconstructionNetwork
from perception_models.reconstruction.settings import ReconstructionSettings

TINY = ReconstructionSettings(
    width=96,
    height=64,
    encoder=32,
    encoder_blocks=2,
    encoder_heads=2,
    decoder=24,
    decoder_blocks=4,
    decoder_heads=2,
    state=7,
    memory=5,
    features=8,
    layers=(8, 12, 16, 20),
    last=8,
    real=False,
)
KINDS = {
    "dpt": replace(TINY, colour="dpt"),
    "linear": replace(TINY, head="linear"),
    "compact": replace(TINY, real=True),
}


def tiny_network(settings: ReconstructionSettings = TINY) -> ReconstructionNetwork:
    """In evaluation mode; its tokens are large enough to matter."""
    torch.manual_seed(0)
    network = ReconstructionNetwork(settings, real_encoder() if settings.real else None).eval()
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if "token" in name or name.endswith("mem"):
                weights.normal_()
    rounded(network)  # as checkpoints are, and engines
    return network


def images(count: int, settings: ReconstructionSettings = TINY) -> Tensor:
    """(count, 3, H, W) -1 to 1."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, settings.height, settings.width, generator=generator) * 2 - 1
