# SPDX-License-Identifier: Apache-2.0
"""CUT3R (Wang et al., Continuous 3D Perception Model with Persistent State, CVPR 2025, section 3): each image changes a
state and is read out of it, so that memory and time do not grow with the stream.

Written from the paper and the names and shapes of the released weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception_models.real_encoder import EIGHTH, QUARTER, XFeatPyramid
from perception_models.reconstruction.heads import Heads, Outputs
from perception_models.reconstruction.layers import Block, DecoderBlock, Patches, norm
from perception_models.reconstruction.pose_memory import PoseMemory
from perception_models.reconstruction.rope import grid_places, turns
from perception_models.reconstruction.settings import ReconstructionSettings
from perception_models.reconstruction.state import State, blend, flag
from perception_models.reconstruction.stem import RealStem

__all__ = ["Decoded", "Encoded", "Outputs", "ReconstructionNetwork", "State", "blend"]

POSE_PLACE = -1.0  # row and column of the pose token, outside of the image
RAY_CHANNELS = 6  # origin and direction of the ray of each pixel


class Encoded(NamedTuple):
    """tokens (B, N, C) of an image or of its rays; fine: features at 1/4 and 1/8, none at full size."""

    tokens: Tensor
    fine: tuple[Tensor, ...]


class Decoded(NamedTuple):
    """levels: tokens of the encoder (B, N, C) and of three depths of the decoder (B, N, D); pose_token (B, D)."""

    levels: tuple[Tensor, Tensor, Tensor, Tensor]
    pose_token: Tensor


class ReconstructionNetwork(nn.Module):
    """`real` is XFeat, see `real_encoder`, where the settings ask for it."""

    at_image: Tensor
    at_decoder: Tensor
    at_state: Tensor

    def __init__(self, settings: ReconstructionSettings, real: nn.Module | None = None) -> None:
        super().__init__()
        self.settings = settings
        self._make_encoder(settings)
        self._make_decoder(settings)
        self._keep_places(settings)
        self.downstream_head = Heads(settings)
        self.apply(_initialise)
        if settings.real:  # after the others have got their first weights: it has its own
            if real is None:
                raise ValueError("these settings ask for the features of a real encoder: give one")
            self.real, self.real_stem = XFeatPyramid(real), RealStem(settings.encoder)

    def _make_encoder(self, settings: ReconstructionSettings) -> None:
        width, heads = settings.encoder, settings.encoder_heads
        self.patch_embed = Patches(3, width, settings.patch)
        self.patch_embed_ray_map = Patches(RAY_CHANNELS, width, settings.patch)
        self.masked_img_token = nn.Parameter(0.02 * torch.randn(1, width))
        self.masked_ray_map_token = nn.Parameter(0.02 * torch.randn(1, width))
        self.enc_blocks = nn.ModuleList(Block(width, heads) for _ in range(settings.encoder_blocks))
        self.enc_blocks_ray_map = nn.ModuleList(Block(width, heads) for _ in range(settings.ray_blocks))
        self.enc_norm, self.enc_norm_ray_map = norm(width), norm(width)

    def _make_decoder(self, settings: ReconstructionSettings) -> None:
        width, heads, blocks = settings.decoder, settings.decoder_heads, settings.decoder_blocks
        self.register_tokens = nn.Embedding(settings.state, settings.encoder)
        self.decoder_embed = nn.Linear(settings.encoder, width)
        self.decoder_embed_state = nn.Linear(settings.encoder, width)
        self.pose_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pose_retriever = PoseMemory(settings)
        self.dec_blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(blocks))
        self.dec_blocks_state = nn.ModuleList(DecoderBlock(width, heads) for _ in range(blocks))
        self.dec_norm, self.dec_norm_state = norm(width), norm(width)

    def _keep_places(self, settings: ReconstructionSettings) -> None:
        image = grid_places(*settings.grid)
        with_pose = torch.cat([torch.full((1, 2), POSE_PLACE), image])
        side = math.isqrt(settings.state - 1) + 1  # the state's tokens fill a square, its last row partly
        state = grid_places(side, side)[: settings.state]
        encoder, decoder = settings.encoder // settings.encoder_heads, settings.decoder // settings.decoder_heads
        for name, places, channels in (
            ("at_image", image, encoder),
            ("at_decoder", with_pose, decoder),
            ("at_state", state, decoder),
        ):
            self.register_buffer(name, turns(places, channels), persistent=False)

    def encode(self, rgb: Tensor) -> Encoded:
        """rgb (B, 3, H, W) -1 to 1."""
        tokens: Tensor = self.patch_embed(rgb)
        fine: tuple[Tensor, ...] = ()
        if self.settings.real:
            quarter, eighth, sixteenth = self.real((rgb + 1) / 2)
            tokens, fine = tokens + self.real_stem(eighth, sixteenth), (quarter, eighth)
        for block in self.enc_blocks:
            tokens = block(tokens, self.at_image)
        return Encoded(self.enc_norm(tokens) + self.masked_ray_map_token, fine)

    def encode_rays(self, rays: Tensor) -> Encoded:
        """rays (B, 6, H, W): origin and direction of each pixel's ray in the world's frame, to ask for an unseen view.

        Nothing is known of its edges, so `fine` is zero.
        """
        tokens = self.patch_embed_ray_map(rays)
        for block in self.enc_blocks_ray_map:
            tokens = block(tokens, self.at_image)
        return Encoded(self.enc_norm_ray_map(tokens) + self.masked_img_token, self._no_fine(rays))

    def _no_fine(self, rays: Tensor) -> tuple[Tensor, ...]:
        if not self.settings.real:
            return ()
        (batch, _, height, width) = rays.shape
        return tuple(
            rays.new_zeros(batch, channels, height // stride, width // stride)
            for channels, stride in ((QUARTER, 4), (EIGHTH, 8))
        )

    def initial_state(self, batch: int) -> State:
        """Of a stream of which nothing was seen."""
        tokens = self.decoder_embed_state(self.register_tokens.weight).float()
        return State(tokens.expand(batch, -1, -1), self.pose_retriever.mem.expand(batch, -1, -1))

    def step(self, encoded: Encoded, state: State, fresh: Tensor) -> tuple[Decoded, State, Tensor]:
        """Image and state look at each other. `fresh` (B,) is 1 where the state is the initial one.

        -> what the heads read, the state that the image makes of the old one (see `blend`), and how far each of its
        tokens should go there (B, S, 1), 0 to 1: TTT3R's gate, from how strongly it is drawn to the image.
        """
        key = self.pose_retriever.key(encoded.tokens)
        retrieved = self.pose_retriever.read(key, state.memory)
        pose_token = torch.where(flag(fresh), self.pose_token, retrieved)
        image = torch.cat([pose_token, self.decoder_embed(encoded.tokens).float()], 1)
        depths, tokens, gate = self._decode(image, state.tokens)
        image = self.dec_norm(depths[-1])
        memory = self.pose_retriever.write(key, image[:, :1], state.memory)
        middle, late, _ = self.settings.levels
        levels = encoded.tokens, depths[middle - 1][:, 1:], depths[late - 1][:, 1:], image[:, 1:]
        return Decoded(levels, image[:, 0]), State(self.dec_norm_state(tokens), memory), gate

    def _decode(self, image: Tensor, tokens: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """The image's tokens behind each block, the state's behind the last, and the gate (B, S, 1)."""
        depths, drawn = [], []
        for of_image, of_state in zip(self.dec_blocks, self.dec_blocks_state, strict=True):
            # Each looks at the other as the block before left it.
            (image, _), (tokens, strength) = (
                of_image(image, tokens, self.at_decoder, self.at_state),
                of_state(tokens, image, self.at_state, self.at_decoder),
            )
            depths.append(image)
            drawn.append(strength)
        return depths, tokens, torch.sigmoid(torch.stack(drawn).float().mean(0)).unsqueeze(-1)

    def heads(self, encoded: Encoded, decoded: Decoded) -> Outputs:
        """Points, colours and pose."""
        places = self.at_decoder[:, 1:]
        outputs: Outputs = self.downstream_head(decoded.levels, decoded.pose_token, encoded.fine, places)
        return outputs


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
