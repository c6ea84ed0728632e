# SPDX-License-Identifier: Apache-2.0
"""P2B with the names and shapes of its published checkpoints (Qi et al., "P2B: Point-to-Box Network for 3D Object
Tracking in Point Clouds", CVPR 2020).

Static shapes: centres are the first rows of points in random order, where the original takes the farthest; a group is
the nearest points within its radius, where the original takes the first it finds.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perception_models.tracking.adaformer import gather

TEMPLATE, SEARCH = 512, 1024  # points
RADII, GROUP = (0.3, 0.5, 0.7), 32
PROPOSALS, PROPOSAL_RADIUS, PROPOSAL_GROUP = 64, 0.3, 16
INPUTS = ("template", "search")
OUTPUTS = ("proposals", "foreground")


class _Norm(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.bn = norm

    def forward(self, features: Tensor) -> Tensor:
        normed: Tensor = self.bn(features)
        return normed


def _layer(given: int, channels: int, flat: bool, last: bool = False) -> nn.Sequential:
    """Convolution over single points, with norm and ReLU where it is not the last."""
    conv, norm = (nn.Conv1d, nn.BatchNorm1d) if flat else (nn.Conv2d, nn.BatchNorm2d)
    parts: list[tuple[str, nn.Module]] = [("conv", conv(given, channels, 1, bias=last))]
    if not last:
        parts += [("bn", _Norm(norm(channels))), ("activation", nn.ReLU())]
    return nn.Sequential(OrderedDict(parts))


def _shared(*widths: int) -> nn.Sequential:
    """An MLP over groups (B, C, Q, K)."""
    pairs = enumerate(zip(widths, widths[1:], strict=False))
    return nn.Sequential(OrderedDict((f"layer{j}", _layer(a, b, flat=False)) for j, (a, b) in pairs))


def _flat(*widths: int) -> nn.Sequential:
    """An MLP over points (B, C, N); the last layer has neither norm nor ReLU."""
    pairs = list(zip(widths, widths[1:], strict=False))
    return nn.Sequential(*(_layer(a, b, flat=True, last=j == len(pairs) - 1) for j, (a, b) in enumerate(pairs)))


class SetAbstraction(nn.Module):
    """The highest features of the points around the first `count` of them."""

    def __init__(self, radius: float, group: int, *widths: int) -> None:
        super().__init__()
        self.radius, self.group = radius, group
        self.mlps = nn.ModuleList([_shared(*widths)])

    def forward(self, xyz: Tensor, features: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """xyz (B, N, 3), features (B, C, N) -> centres (B, count, 3), features (B, C', count)."""
        centres = xyz[:, :count]
        distance = ((centres[:, :, None] - xyz[:, None]) ** 2).sum(dim=-1)
        near, rows = torch.topk(-distance, self.group, dim=-1)
        rows = torch.where(-near <= self.radius**2, rows, rows[..., :1])
        grouped = gather(xyz, rows) - centres[:, :, None]
        if features is not None:
            grouped = torch.cat([grouped, gather(features.transpose(1, 2), rows)], dim=-1)
        return centres, self.mlps[0](grouped.permute(0, 3, 1, 2)).amax(dim=3)


class Backbone(nn.Module):
    """Three set abstractions."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 64, 64, 128), (131, 128, 128, 256), (259, 256, 256, 256))
        pairs = zip(RADII, widths, strict=True)
        self.SA_modules = nn.ModuleList(SetAbstraction(radius, GROUP, *w) for radius, w in pairs)

    def forward(self, xyz: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Points (B, count, 3) -> (B, count / 8, 3) and features (B, 256, count / 8)."""
        features = None
        for module in self.SA_modules:
            count //= 2
            xyz, features = module(xyz, features, count)
        assert features is not None
        return xyz, features


class Similarity(nn.Module):
    """What each search point has in common with the template (target-specific feature augmentation)."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = _shared(260, 256, 256, 256)
        self.fea_layer = _flat(256, 256, 256)

    def forward(self, template_xyz: Tensor, template: Tensor, search: Tensor) -> Tensor:
        """Features (B, 256, M) of the template's points (B, M, 3) and (B, 256, N) of the search -> (B, 256, N)."""
        cosine = F.normalize(template, dim=1).transpose(1, 2) @ F.normalize(search, dim=1)
        known = torch.cat([template_xyz.transpose(1, 2), template], dim=1)
        known = known[..., None].expand(-1, -1, -1, search.shape[2])
        features: Tensor = self.fea_layer(self.mlp(torch.cat([cosine[:, None], known], dim=1)).amax(dim=2))
        return features


class Proposals(nn.Module):
    """Votes for the centre, and boxes around clusters of votes."""

    def __init__(self) -> None:
        super().__init__()
        self.FC_layer_cla = _flat(256, 256, 256, 1)
        self.vote_layer = _flat(259, 256, 256, 259)
        self.vote_aggregation = SetAbstraction(PROPOSAL_RADIUS, PROPOSAL_GROUP, 260, 256, 256, 256)
        self.FC_proposal = _flat(256, 256, 256, 5)

    def forward(self, xyz: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals (B, 64, 5) x y z yaw and logit, and the logits (B, N) of the points' being the target's."""
        logits = self.FC_layer_cla(features)
        known = torch.cat([xyz.transpose(1, 2), features], dim=1)
        votes = known + self.vote_layer(known)
        places = votes[:, :3].transpose(1, 2)
        centres, clusters = self.vote_aggregation(
            places, torch.cat([torch.sigmoid(logits), votes[:, 3:]], 1), PROPOSALS
        )
        told = self.FC_proposal(clusters).transpose(1, 2)
        return torch.cat([told[..., :3] + centres, told[..., 3:]], dim=-1), logits[:, 0]


class P2B(nn.Module):
    """Template and search region, in the frame of the box, in metres -> proposals of the box."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.conv_final = nn.Conv1d(256, 256, 1)
        self.xcorr = Similarity()
        self.rpn = Proposals()

    def forward(self, template: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        """template (B, 512, 3), search (B, 1024, 3), both in random order -> `OUTPUTS`."""
        known, there = self.backbone(template, TEMPLATE), self.backbone(search, SEARCH)
        augmented = self.xcorr(known[0], self.conv_final(known[1]), self.conv_final(there[1]))
        proposals: tuple[Tensor, Tensor] = self.rpn(there[0], augmented)
        return proposals
