# SPDX-License-Identifier: Apache-2.0
"""The registration network: learned columns beside the classical descriptors of two clouds, and a matchability.

Points -> nodes -> super-points by attention to neighbours; super-points attend within their cloud and across, with
geometric terms (GeoTransformer, CVPR 2022; Fully-Geometric Cross-Attention, 3DV 2025); and back to the points. The
learned columns start with weight zero, so an untrained network gives the classical scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perception_models.registration.geometric_attention import GeometricAttention, PairEmbedding
from perception_models.registration.gromov_wasserstein import GromovWasserstein
from perception_models.registration.point_attention import PointAttention

CLOUD_INPUTS = (
    "features",
    "nodes",
    "super_points",
    *(
        f"{step}_{part}"
        for step in ("gather", "around", "pool", "spread", "decode")
        for part in ("neighbours", "geometry")
    ),
    "pooled_features",
    "distances",
    "angles",
    "mask",
)
INPUTS = tuple(f"{side}_{name}" for side in ("source", "target") for name in CLOUD_INPUTS)
OUTPUTS = tuple(
    f"{side}_{name}" for side in ("source", "target") for name in ("descriptors", "matchability", "super_descriptors")
)
CROSS = ("none", "plain", "gw")  # cross-attention: none, without and with the Gromov-Wasserstein term


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes. `features` is the width of the classical descriptors; `sharpness` multiplies their cosines, so that a dot
    product of descriptors is a logit: the inverse of the classical temperature."""

    features: int = 66
    channels: int = 64
    super_channels: int = 96
    learned: int = 48
    heads: int = 4
    blocks: int = 3
    relative: int = 32
    cross: str = "gw"
    sharpness: float = 167.0
    noise: float = 0.03  # added in training to the features that the network looks at, not to those it passes on

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass
class Encoded:
    """One cloud on its way: points (N, C), nodes (M, C), super-points (S, D), and the embedding (S, S, R) of pairs of
    super-points."""

    points: Tensor
    nodes: Tensor
    super_points: Tensor
    pairs: Tensor


Rows = tuple[Tensor | None, Tensor | None] | None
Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class RegistrationNetwork(nn.Module):
    """Both clouds through the same weights."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        if settings.cross not in CROSS:
            raise ValueError(f"cross is {settings.cross!r}; expected one of {', '.join(CROSS)}")
        self.settings = settings
        self.encoder = CloudEncoder(settings)
        self.transformer = SuperPointTransformer(settings)
        self.decoder = CloudDecoder(settings)
        self.gain = nn.Parameter(torch.zeros(settings.learned))  # zero: at the start nothing is learned
        # Likelihood wants softer logits than ranking does; the loss alone divides by this.
        self.log_softness = nn.Parameter(torch.tensor(4.0).log())

    def forward(self, source: Mapping[str, Tensor], target: Mapping[str, Tensor], rows: Rows = None) -> Outputs:
        """Tensors of `network_input.cloud_tensors` of both clouds -> outputs in the order of `OUTPUTS`.

        descriptors (N, F + L): their dot product across the clouds is a logit; matchability (N,) a logit; super-point
        descriptors (S, L) of unit length. rows: only these points (Q,) of either cloud are decoded.
        """
        first, second = self.encoder(source), self.encoder(target)
        first.super_points, second.super_points = self.transformer(first, second, source, target)
        rows = rows or (None, None)
        columns, matchable, coarse = self.decoder(first, source, rows[0])
        other_columns, other_matchable, other_coarse = self.decoder(second, target, rows[1])
        # The gain sits on one side only: on both, its gradient would be zero where it is zero. Its unit is a tenth of
        # the sharpness, so that it need not grow far.
        descriptors = self._join(source["features"], columns * (0.1 * self.settings.sharpness * self.gain), rows[0])
        other_descriptors = self._join(target["features"], other_columns, rows[1])
        return descriptors, matchable, coarse, other_descriptors, other_matchable, other_coarse

    def _join(self, features: Tensor, columns: Tensor, rows: Tensor | None) -> Tensor:
        features = features if rows is None else features.index_select(0, rows)
        return torch.cat([features * self.settings.sharpness**0.5, columns], dim=1)


class CloudEncoder(nn.Module):
    """From the classical descriptors of the points up to the super-points."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        channels, heads = settings.channels, settings.heads
        self.noise = settings.noise
        self.embed = nn.Sequential(nn.Linear(settings.features, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.gather = PointAttention(channels, heads)
        self.around = nn.ModuleList(PointAttention(channels, heads) for _ in range(2))
        self.pool = PointAttention(channels, heads)
        self.widen = nn.Linear(channels, settings.super_channels)
        self.pairs = PairEmbedding(settings.relative, angles=True)

    def forward(self, cloud: Mapping[str, Tensor]) -> Encoded:
        """Tensors of one cloud -> its encoding."""
        features = cloud["features"]
        if self.training:
            features = features + self.noise * torch.randn_like(features)
        points = self.embed(features)
        nodes = points.index_select(0, cloud["nodes"])
        nodes = self.gather(nodes, points, cloud["gather_neighbours"], cloud["gather_geometry"])
        for layer in self.around:
            nodes = layer(nodes, nodes, cloud["around_neighbours"], cloud["around_geometry"])
        pooled = nodes.index_select(0, cloud["super_points"])
        pooled = self.pool(pooled, nodes, cloud["pool_neighbours"], cloud["pool_geometry"])
        return Encoded(points, nodes, self.widen(pooled), self.pairs(cloud["distances"], cloud["angles"]))


class SuperPointTransformer(nn.Module):
    """Alternating geometric self-attention and cross-attention; with cross "gw" each cross-attention knows a distance
    between the clouds, whose coupling starts from the classical scores and what has been learned so far."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        channels, relative = settings.super_channels, settings.relative
        self.cross = settings.cross
        self.own = nn.ModuleList(GeometricAttention(channels, settings.heads, relative) for _ in range(settings.blocks))
        self.other = nn.ModuleList(
            GeometricAttention(channels, settings.heads, relative if self.cross == "gw" else 0)
            for _ in range(settings.blocks if self.cross != "none" else 0)
        )
        if self.cross == "gw":
            self.transport = GromovWasserstein()
            self.across = PairEmbedding(relative, angles=False, reach=6.0)
            self.compare = nn.Linear(channels, settings.learned, bias=False)
            self.feature_weight = nn.Parameter(torch.tensor(0.0))
            self.classical_weight = nn.Parameter(torch.tensor(30.0))

    def forward(
        self, first: Encoded, second: Encoded, source: Mapping[str, Tensor], target: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Both clouds' encodings and input tensors -> super-points (S, D), (T, D)."""
        x, y = first.super_points, second.super_points
        for layer, own in enumerate(self.own):
            x = own(x, x, source["mask"], first.pairs)
            y = own(y, y, target["mask"], second.pairs)
            if self.cross != "none":
                embedding = self._distance_across(x, y, source, target) if self.cross == "gw" else None
                back = None if embedding is None else embedding.transpose(0, 1)
                other = self.other[layer]
                x, y = other(x, y, target["mask"], embedding), other(y, x, source["mask"], back)
        return x, y

    def _distance_across(
        self, x: Tensor, y: Tensor, source: Mapping[str, Tensor], target: Mapping[str, Tensor]
    ) -> Tensor:
        """Embedding (S, T, R) of the Gromov-Wasserstein distance."""
        scores = self.classical_weight * source["pooled_features"] @ target["pooled_features"].T
        learned = unit_length(self.compare(x)) @ unit_length(self.compare(y)).T
        scores = scores + self.feature_weight * learned
        distance, _ = self.transport(scores, source["distances"], target["distances"], source["mask"], target["mask"])
        return self.across(distance.to(x.dtype))  # type: ignore[no-any-return]


class CloudDecoder(nn.Module):
    """From the super-points back to the points: descriptor columns and matchability."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        channels, heads = settings.channels, settings.heads
        self.coarse = nn.Linear(settings.super_channels, settings.learned)
        self.narrow = nn.Linear(settings.super_channels, channels)
        self.spread = PointAttention(channels, heads)
        self.around = PointAttention(channels, heads)
        self.decode = PointAttention(channels, heads)
        self.norm = nn.LayerNorm(channels)
        self.columns = nn.Linear(channels, settings.learned)
        self.matchability = nn.Linear(channels, 1)
        nn.init.zeros_(self.matchability.weight)
        nn.init.zeros_(self.matchability.bias)

    def forward(
        self, encoded: Encoded, cloud: Mapping[str, Tensor], rows: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encoding and input tensors of a cloud, rows (Q,) or all -> columns (Q, L), matchability (Q,), super-point
        descriptors (S, L)."""
        nodes = self.spread(
            encoded.nodes, self.narrow(encoded.super_points), cloud["spread_neighbours"], cloud["spread_geometry"]
        )
        nodes = self.around(nodes, nodes, cloud["around_neighbours"], cloud["around_geometry"])
        points, neighbours, geometry = encoded.points, cloud["decode_neighbours"], cloud["decode_geometry"]
        if rows is not None:
            points, neighbours, geometry = (tensor.index_select(0, rows) for tensor in (points, neighbours, geometry))
        decoded = self.norm(self.decode(points, nodes, neighbours, geometry))
        coarse = unit_length(self.coarse(encoded.super_points))
        return self.columns(decoded), self.matchability(decoded)[:, 0], coarse


class DeployedNetwork(nn.Module):
    """What is exported: tensors in the order of `INPUTS` -> outputs in the order of `OUTPUTS`."""

    def __init__(self, network: RegistrationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> Outputs:
        """Both clouds' tensors, the source's first."""
        half = len(CLOUD_INPUTS)
        source = dict(zip(CLOUD_INPUTS, tensors[:half], strict=True))
        target = dict(zip(CLOUD_INPUTS, tensors[half:], strict=True))
        return self.network(source, target)  # type: ignore[no-any-return]


def unit_length(x: Tensor) -> Tensor:
    """Rows of x (S, C) scaled to length 1; written out, so that an exported graph knows its width."""
    return x * torch.rsqrt((x * x).sum(dim=1, keepdim=True) + 1e-12)
