# SPDX-License-Identifier: Apache-2.0
"""Dynamic sparse voxel transformer for pillars: attention inside rotated sets (DSVT, CVPR 2023, arXiv 2301.06051)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from perception_models.detection.flatformer import GroupAttention
from perception_models.detection.preprocess import MASKED


class SetTensors(NamedTuple):
    """The tensors of one windowing, as `dsvt_sets.RotatedSets` describes them.

    members: (2, S, tau) integer. duplicates: (2, S, tau) bool. slots: (2, N) integer. positions: (N, 2) float.
    """

    members: Tensor
    duplicates: Tensor
    slots: Tensor
    positions: Tensor


class PositionEmbedding(nn.Module):
    """In-window coordinates (N, 2), in cells from the window's middle -> (N, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position_embedding_head = nn.Sequential(
            nn.Linear(2, channels), nn.BatchNorm1d(channels), nn.ReLU(), nn.Linear(channels, channels)
        )

    def forward(self, positions: Tensor) -> Tensor:
        return self.position_embedding_head(positions)  # type: ignore[no-any-return]


class DsvtInputLayer(nn.Module):
    """Holds the position embeddings: one for each stage, block of the stage and windowing."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        stage = nn.ModuleList(nn.ModuleList(PositionEmbedding(channels) for _ in range(2)) for _ in range(blocks))
        self.posembed_layers = nn.ModuleList([stage])

    def forward(self, block: int, sets: Sequence[SetTensors]) -> list[Tensor]:
        """The two position embeddings (N, channels) of a block, from the first and from the second windowing."""
        embeddings = self.posembed_layers[0][block]  # type: ignore[index]
        return [embedding(windowing.positions) for embedding, windowing in zip(embeddings, sets, strict=True)]


class SetAttention(nn.Module):
    """Attention among the slots of each set, then a feed-forward network; each with its residual, normalised after."""

    def __init__(self, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = GroupAttention(channels, heads)
        self.linear1 = nn.Linear(channels, feedforward)
        self.linear2 = nn.Linear(feedforward, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, position: Tensor, members: Tensor, duplicates: Tensor, slots: Tensor) -> Tensor:
        """x, position: (N, C); members, duplicates: (S, tau); slots: (N,). Returns (N, C)."""
        key_bias = duplicates[:, None, None, :].to(x.dtype) * MASKED
        in_sets = self.self_attn(x[members], position[members], key_bias)
        x = self.norm1(x + in_sets.reshape(-1, x.shape[1])[slots])
        return self.norm2(x + self.linear2(functional.gelu(self.linear1(x))))  # type: ignore[no-any-return]


class DsvtEncoderLayer(nn.Module):
    """Set attention with a second residual around it; shapes as in `SetAttention.forward`."""

    def __init__(self, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.win_attn = SetAttention(channels, heads, feedforward)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, position: Tensor, members: Tensor, duplicates: Tensor, slots: Tensor) -> Tensor:
        return self.norm(x + self.win_attn(x, position, members, duplicates, slots))  # type: ignore[no-any-return]


class DsvtBlock(nn.Module):
    """Two encoder layers on one windowing: the first over the y-sorted sets, the second over the x-sorted sets."""

    def __init__(self, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.encoder_list = nn.ModuleList(DsvtEncoderLayer(channels, heads, feedforward) for _ in range(2))

    def forward(self, x: Tensor, positions: Sequence[Tensor], sets: SetTensors) -> Tensor:
        """x: (N, C); positions: the block's two position embeddings (N, C), one for each layer. Returns (N, C).

        The published weights were trained with the embedding chosen by the layer and not by the windowing of the block
        (a known slip of the reference), so this is what is done here.
        """
        for axis, layer in enumerate(self.encoder_list):
            x = layer(x, positions[axis], sets.members[axis], sets.duplicates[axis], sets.slots[axis])
        return x


class Dsvt(nn.Module):
    """One stage of DSVT blocks over pillars, alternating between the plain and the shifted windows.

    Parameter names are those of the published single-stage pillar models (`backbone_3d.*`).
    """

    def __init__(self, channels: int = 192, heads: int = 8, feedforward: int = 384, blocks: int = 4) -> None:
        super().__init__()
        self.input_layer = DsvtInputLayer(channels, blocks)
        self.stage_0 = nn.ModuleList(DsvtBlock(channels, heads, feedforward) for _ in range(blocks))
        self.residual_norm_stage_0 = nn.ModuleList(nn.LayerNorm(channels) for _ in range(blocks))

    def forward(self, x: Tensor, sets: Sequence[SetTensors]) -> Tensor:
        """x: (N, channels) pillar features; sets: the plain and the shifted windowing. Returns (N, channels)."""
        for number, (block, norm) in enumerate(zip(self.stage_0, self.residual_norm_stage_0, strict=True)):
            positions = self.input_layer(number, sets)
            x = norm(x + block(x, positions, sets[number % 2]))
        return x
