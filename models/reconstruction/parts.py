# SPDX-License-Identifier: Apache-2.0
"""The network cut into the graphs that become engines, each with names for what it takes and gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.reconstruction.network import Decoded, Encoded, ReconstructionNetwork
from perception_models.reconstruction.state import State, blend, chosen, flag

FINE = ("fine0", "fine1")
LEVELS = ("level1", "level2", "level3")
FLAGS = ("fresh", "update", "reset", "gated")
OUTPUTS = ("points_self", "confidence_self", "points", "confidence", "rgb", "pose")


class Part(nn.Module):
    """A part of the network that runs alone, on one image: `takes` and `gives` name its tensors."""

    takes: tuple[str, ...]
    gives: tuple[str, ...]

    def __init__(self, network: ReconstructionNetwork) -> None:
        super().__init__()
        self.network = network
        self.fine = FINE if network.settings.real else ()


class Encoder(Part):
    """rgb (1, 3, H, W) -1 to 1 -> tokens (1, N, C), and of the compact network features at 1/4 and 1/8."""

    takes = ("rgb",)

    def __init__(self, network: ReconstructionNetwork) -> None:
        super().__init__(network)
        self.gives = ("tokens", *self.fine)

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        encoded = self.network.encode(rgb)
        return encoded.tokens, *encoded.fine


class RayEncoder(Part):
    """rays (1, 6, H, W) -> tokens (1, N, C). Where the heads want fine features beside them, those are zeros."""

    takes, gives = ("rays",), ("tokens",)

    def forward(self, rays: Tensor) -> tuple[Tensor]:
        """See the class."""
        return (self.network.encode_rays(rays).tokens,)


class Decoder(Part):
    """One image of a stream: tokens (1, N, C), state (1, S, D), memory (1, M, 2 * D) and flags (1,), 1 or 0
    -> the state and the memory to carry to the next image, and what the heads read.

    fresh: what is given as state and memory is ignored, and the initial ones are taken, which lie in the graph.
    update: 0 leaves state and memory as they were. reset: the next image finds the initial ones; it must be told so, as
    fresh. gated: tokens change as far as TTT3R's gate lets them.
    """

    takes, gives = ("tokens", "state", "memory", *FLAGS), ("next_state", "next_memory", *LEVELS, "pose_token")
    initial_tokens: Tensor
    initial_memory: Tensor

    def __init__(self, network: ReconstructionNetwork) -> None:
        super().__init__(network)
        with torch.no_grad():
            initial = network.initial_state(1)
        self.register_buffer("initial_tokens", initial.tokens.clone())
        self.register_buffer("initial_memory", initial.memory.clone())

    def forward(
        self, tokens: Tensor, state: Tensor, memory: Tensor, fresh: Tensor, update: Tensor, reset: Tensor, gated: Tensor
    ) -> tuple[Tensor, ...]:
        """See the class."""
        initial = State(self.initial_tokens, self.initial_memory)
        old = chosen(flag(fresh), initial, State(state, memory))
        decoded, new, gate = self.network.step(Encoded(tokens, ()), old, fresh)
        gate = torch.where(flag(gated), gate, torch.ones_like(gate))
        after = blend(old, new, update, reset, initial, gate, fresh)
        return *after, *decoded.levels[1:], decoded.pose_token


class HeadsPart(Part):
    """What encoder and decoder gave -> see `Outputs`."""

    gives = OUTPUTS

    def __init__(self, network: ReconstructionNetwork) -> None:
        super().__init__(network)
        self.takes = ("tokens", *LEVELS, "pose_token", *self.fine)

    def forward(
        self, tokens: Tensor, level1: Tensor, level2: Tensor, level3: Tensor, pose_token: Tensor, *fine: Tensor
    ) -> tuple[Tensor, ...]:
        """See the class."""
        decoded = Decoded((tokens, level1, level2, level3), pose_token)
        return tuple(self.network.heads(Encoded(tokens, fine), decoded))


def parts_of(network: ReconstructionNetwork) -> dict[str, Part]:
    """By the name of the folder: encoder, decoder, heads, rays."""
    return {
        "encoder": Encoder(network),
        "decoder": Decoder(network),
        "heads": HeadsPart(network),
        "rays": RayEncoder(network),
    }
