# SPDX-License-Identifier: Apache-2.0
"""The compact promptable network: one encoding an image, then a mask for each prompt by a light decoder.

The prompts, the two-way decoder, the masks from tokens and the predicted IoU are those of Segment Anything (Kirillov et
al., ICCV 2023, sections 3 and A). The encoder is small: XFeat (Potje et al., CVPR 2024), whose weights learnt from real
photographs, beside a stem for colour and depth; attention among tokens at 1/16; features up to 1/2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from perception_models.real_encoder import XFeatPyramid
from perception_models.segmentation.compact_settings import CompactSettings
from perception_models.segmentation.two_way import Attention, Mlp, TwoWay

ENCODER_INPUTS, ENCODER_OUTPUTS = ("rgb", "depth"), ("embedding", "middle", "fine")
DECODER_INPUTS = ("embedding", "middle", "fine", "coordinates", "labels", "mask", "has_mask")
DECODER_OUTPUTS = ("logits", "scores")
LABELS = 5  # none, background, foreground, two corners of a box: label + 1
MIDDLE = 32  # channels at 1/4
COARSE = 16  # input pixels a cell of what attends


def block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation, activation."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.GELU())


class Block(nn.Module):
    """Pre-norm self-attention and MLP on tokens (B, N, C)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(channels, channels, heads)
        self.mlp = Mlp(channels, 3 * channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Keeps the shape."""
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed, normed)
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class Encoder(nn.Module):
    """rgb (B, 3, H, W) 0 to 1, depth (B, 2, H, W) -> embedding (B, C, H/8, W/8), middle (B, 32, H/4, W/4), fine
    (B, F, H/2, W/2)."""

    def __init__(self, settings: CompactSettings, xfeat: nn.Module) -> None:
        super().__init__()
        rows, columns = settings.height // COARSE, settings.width // COARSE
        self.xfeat = XFeatPyramid(xfeat)
        self.to_half, self.to_quarter, self.to_eighth = block(5, 24, 2), block(24, 48, 2), block(48, 96, 2)
        self.to_sixteenth = block(96, 128, 2)
        self.into = nn.Conv2d(128 + 64, settings.coarse, 1)
        self.position = nn.Parameter(0.02 * torch.randn(1, settings.coarse, rows, columns))
        self.blocks = nn.ModuleList(Block(settings.coarse, settings.heads) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.coarse)
        self.down = nn.Conv2d(settings.coarse, settings.channels, 1)
        self.beside = nn.Conv2d(96 + 64, settings.channels, 1)
        self.embedding = nn.Sequential(
            block(settings.channels, settings.channels), nn.Conv2d(settings.channels, settings.channels, 1)
        )
        self.up_middle, self.beside_middle = nn.Conv2d(settings.channels, MIDDLE, 1), nn.Conv2d(48 + 24, MIDDLE, 1)
        self.middle = block(MIDDLE, MIDDLE)
        self.up_fine, self.beside_fine = nn.Conv2d(MIDDLE, settings.fine, 1), nn.Conv2d(24, settings.fine, 1)
        self.fine = nn.Sequential(block(settings.fine, settings.fine), nn.Conv2d(settings.fine, settings.fine, 1))

    def forward(self, rgb: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        real_quarter, real_eighth, real_sixteenth = self.xfeat(rgb)
        half = self.to_half(torch.cat([rgb - 0.5, depth], 1))
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        coarse = self.into(torch.cat([self.to_sixteenth(eighth), real_sixteenth], 1)) + self.position
        tokens = coarse.flatten(2).transpose(1, 2)
        for each in self.blocks:
            tokens = each(tokens)
        coarse = self.norm(tokens).transpose(1, 2).reshape(coarse.shape)
        embedding = self.embedding(_twice(self.down(coarse)) + self.beside(torch.cat([eighth, real_eighth], 1)))
        middle = self.middle(
            _twice(self.up_middle(embedding)) + self.beside_middle(torch.cat([quarter, real_quarter], 1))
        )
        return embedding, middle, self.fine(_twice(self.up_fine(middle)) + self.beside_fine(half))


def _twice(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


class Decoder(nn.Module):
    """Masks of B prompts on one image each, or on one for all.

    embedding, middle, fine as the encoder gives them (B or 1, ...); coordinates (B, K, 2) x y in input pixels; labels
    (B, K) 1 foreground, 0 background, 2 and 3 corners of a box, -1 none; mask (B, 1, H/2, W/2) logits of an earlier
    answer where has_mask (B,) is 1 -> logits (B, M, H/2, W/2), scores (B, M).
    """

    frequencies: Tensor
    grid: Tensor

    def __init__(self, settings: CompactSettings) -> None:
        super().__init__()
        channels, masks = settings.channels, settings.masks
        self.size, self.mask_size = (settings.width, settings.height), settings.mask_size
        self.coarse_size = settings.height // COARSE, settings.width // COARSE
        self.register_buffer("frequencies", torch.randn(2, channels // 2))
        self.label = nn.Embedding(LABELS, channels)
        self.look = nn.Linear(channels + MIDDLE, channels)
        self.tokens = nn.Parameter(torch.randn(1, masks + 1, channels))
        self.mask_in = nn.Sequential(
            nn.Conv2d(1, 16, 4, 4), nn.GELU(), nn.Conv2d(16, 32, 2, 2), nn.GELU(), nn.Conv2d(32, channels, 1)
        )
        self.no_mask = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("grid", self._grid(settings))
        self.two_way = TwoWay(channels, depth=2, heads=4)
        self.up = nn.ConvTranspose2d(channels, MIDDLE, 2, 2)
        self.refine = nn.Sequential(nn.GELU(), nn.Conv2d(MIDDLE, MIDDLE, 1))
        self.middle_weights = nn.ModuleList(Mlp(channels, channels, MIDDLE) for _ in range(masks))
        self.fine_weights = nn.ModuleList(Mlp(channels, channels, settings.fine) for _ in range(masks))
        self.score = Mlp(channels, channels, masks)

    def forward(
        self,
        embedding: Tensor,
        middle: Tensor,
        fine: Tensor,
        coordinates: Tensor,
        labels: Tensor,
        mask: Tensor,
        has_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        has = has_mask.reshape(-1, 1, 1, 1)
        image = functional.avg_pool2d(embedding, 2) + has * self.mask_in(mask) + (1 - has) * self.no_mask
        prompts = self._encode(coordinates) * (labels >= 0).unsqueeze(-1) + self.label(labels + 1)
        prompts = prompts + self.look(self._seen(embedding, middle, coordinates)) * _is_click(labels)
        queries = torch.cat([self.tokens.expand(prompts.shape[0], -1, -1), prompts], 1)
        position = self._encode(self.grid)
        keys = image.flatten(2).transpose(1, 2)
        queries, keys = self.two_way(queries, keys, position)
        image = embedding + _twice(torch.unflatten(keys.transpose(1, 2), 2, self.coarse_size))
        answers = queries[:, 1 : 1 + len(self.middle_weights)].unbind(1)
        shared = self.refine(self.up(image) + middle)
        rows, columns = self.mask_size  # written out, so that an exported graph knows its shapes
        coarse = torch.unflatten(_dot(self.middle_weights, answers, shared), 2, (rows // 2, columns // 2))
        logits = _twice(coarse) + torch.unflatten(_dot(self.fine_weights, answers, fine), 2, self.mask_size)
        return logits, self.score(queries[:, 0])

    def _seen(self, embedding: Tensor, middle: Tensor, coordinates: Tensor) -> Tensor:
        """Features (B, K, C + 32) at places (B, K, 2). Segment Anything has tokens find out what was clicked at by
        attention; told at once, minutes of training suffice."""
        places = self._relative(coordinates).to(embedding.dtype)
        places = places.unsqueeze(0 if len(embedding) == 1 else 1)  # all prompts on one image, or one on each
        seen = [functional.grid_sample(part, places, align_corners=False) for part in (embedding, middle)]
        return torch.cat(seen, 1).permute(0, 2, 3, 1).flatten(0, 1)

    def _relative(self, coordinates: Tensor) -> Tensor:
        """Places (..., 2) in input pixels as -1 to 1 from border to border."""
        scale = torch.tensor(self.size, dtype=coordinates.dtype, device=coordinates.device)
        return 2 * (coordinates + 0.5) / scale - 1

    def _encode(self, coordinates: Tensor) -> Tensor:
        """Random Fourier features (..., C) of places (..., 2) in input pixels."""
        angles = 2 * math.pi * (self._relative(coordinates) @ self.frequencies)
        return torch.cat([angles.sin(), angles.cos()], -1)

    @staticmethod
    def _grid(settings: CompactSettings) -> Tensor:
        """Middles (1, N, 2) of the cells among which prompts and image attend to each other, in input pixels."""
        rows, columns = settings.height // COARSE, settings.width // COARSE
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        return (torch.stack([x, y], -1).reshape(1, -1, 2) + 0.5) * COARSE - 0.5


def _is_click(labels: Tensor) -> Tensor:
    """(B, K, 1), 1 at clicks and 0 at corners and padding."""
    return ((labels == 0) | (labels == 1)).unsqueeze(-1)


def _dot(weights: nn.ModuleList, tokens: tuple[Tensor, ...], features: Tensor) -> Tensor:
    """Logits (B, M, h * w): each token's weights (B, C) times the features (B, C, h, w)."""
    rows = torch.stack([weight(token) for weight, token in zip(weights, tokens, strict=True)], 1)
    return rows @ features.flatten(2)


class CompactNetwork(nn.Module):
    """Encoder and decoder, for training; each is exported alone."""

    def __init__(self, settings: CompactSettings, xfeat: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(settings, xfeat)
        self.decoder = Decoder(settings)
