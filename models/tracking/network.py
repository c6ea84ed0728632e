# SPDX-License-Identifier: Apache-2.0
"""The compact tracker: two scans and earlier views of an object in, where it is now out.

MoCUT (Nie et al., ICLR 2024) on M2-Track (Zheng et al., "Beyond 3D Siamese Tracking", CVPR 2022): foreground, motion
state, motion, the previous box refined, and a second stage that looks again where the first one points. Everything is
in units of the object's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from perception_models.tracking.adaformer import OUT, AdaFormerBlock, Points, mlp, spread
from perception_models.tracking.preprocess import Channel
from perception_models.tracking.settings import CHANNELS, CONTEXT, TrackingSettings

INPUTS = ("current", "template", "context")
OUTPUTS = ("offset", "spread", "score", "previous", "state")
DECODED = 64
RADII = (0.15, 0.3)  # of the interpolation from stages 2 and 3, units of the size
SPREAD = (-6.0, 1.5)  # bounds of the log of the expected error


@dataclass
class TrackerOutputs:
    """Offsets (B, 4) x y z in units of the size, yaw in rad. coarse, offset: of the object from where it was expected,
    after both stages; spread: log of the expected absolute error of `offset`; previous: of the object from its previous
    box; score (B, 1): logit that the offset is right; state (B, 1): logit that the object moves.

    foreground (B, Q) logits, xyz (B, Q, 3) and empty (B, Q): of the first-stage queries, those of this scan first;
    votes (B, Q / 2, 3): where those of this scan see the object's centre.
    """

    coarse: Tensor
    offset: Tensor
    spread: Tensor
    score: Tensor
    previous: Tensor
    state: Tensor
    foreground: Tensor
    votes: Tensor


class TrackingNetwork(nn.Module):
    """The motion-centric network; `siamese.py` replaces how the two sets of points meet."""

    def __init__(self, settings: TrackingSettings) -> None:
        super().__init__()
        self.settings = settings
        a, b, c = settings.channels
        self.embed = mlp(CHANNELS, a, a)
        self.about = mlp(CONTEXT, a, a)
        self.local = AdaFormerBlock(a, a, settings.neighbours[0])
        self.joint = AdaFormerBlock(a, b, settings.neighbours[1])
        self.wide = AdaFormerBlock(b, c, settings.neighbours[2])
        self.decode = mlp(a + b + c, DECODED, DECODED)
        self.point_head = mlp(DECODED, 32, 5)
        self.motion_head = mlp(2 * DECODED + c + a, 128, 10)
        self.second = SecondStage(a, DECODED)
        _start_near_zero(self.motion_head)

    def forward(self, current: Tensor, template: Tensor, context: Tensor) -> TrackerOutputs:
        """Tensors of `preprocess.prepare`."""
        about = self.about(context)
        decoded, top = self._features(self._embedded(current, about), self._embedded(template, about))
        half = self.settings.queries[0]
        told = self.point_head(decoded.features)
        foreground = told[..., 0]
        confidence = told[:, :half, 1] + foreground[:, :half] - OUT * decoded.empty[:, :half]
        votes = decoded.xyz[:, :half] + told[:, :half, 2:5]
        mean = (torch.softmax(confidence, dim=1)[..., None] * votes).sum(dim=1)
        motion = self.motion_head(torch.cat([_pooled(decoded, foreground, half), top, about], dim=-1))
        coarse = torch.cat([mean.clamp(-3, 3) + motion[:, :3], motion[:, 3:4]], dim=-1)
        seen = Points(decoded.xyz[:, :half], told[:, :half, :1], decoded.empty[:, :half])
        change, log_error, score = self.second(
            current, template, coarse, context, seen, torch.cat([top, about], dim=-1)
        )
        return TrackerOutputs(
            coarse,
            added(coarse, change, context),
            log_error.clamp(*SPREAD),
            score,
            motion[:, 4:8],
            motion[:, 8:9],
            foreground,
            votes,
        )

    def _embedded(self, rows: Tensor, about: Tensor) -> Points:
        features = self.embed(rows) + about[:, None]
        return Points(rows[..., :3], features, 1.0 - rows[..., Channel.VALID])

    def _features(self, current: Points, template: Points) -> tuple[Points, Tensor]:
        """Features at the first-stage queries of both sets, and of the whole (B, C)."""
        one, two, three = self.settings.queries
        now, before = self.local(current.first(one), current), self.local(template.first(one // 2), template)
        first = Points.joined(now, before)
        second = self.joint(Points.joined(now.first(two), before.first(two // 2)), first)
        third = self.wide(Points.joined(second.first(three), second.rows(two, two + three // 2)), second)
        raised = [spread(values, first.xyz, radius) for values, radius in zip((second, third), RADII, strict=True)]
        features = torch.relu(self.decode(torch.cat([first.features, *raised], dim=-1)))
        return Points(first.xyz, features, first.empty), highest(third.features, third.empty)


class SecondStage(nn.Module):
    """Looks at all points again in the frame of the box that the first stage found: a PointNet for each set."""

    def __init__(self, about: int, decoded: int) -> None:
        super().__init__()
        self.embed = mlp(CHANNELS + 3 + 1, 48, 64)
        self.lift = nn.Linear(64, 128)
        self.told = nn.LazyLinear(128)
        self.head = mlp(256 + 128, 128, 9)
        _start_near_zero(self.head)

    def forward(
        self, current: Tensor, template: Tensor, coarse: Tensor, context: Tensor, seen: Points, known: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change of the offset (B, 4), log of its error (B, 4), score (B, 1); gradients do not reach the first box."""
        moved = into(current[..., :3], coarse.detach(), context)
        now = self._described(current, moved, spread(seen, current[..., :3], 0.1))
        before = self._described(template, template[..., :3], template[..., Channel.INSIDE, None])
        told = torch.relu(self.told(torch.cat([known, context, coarse], dim=-1)))
        answer = self.head(torch.cat([now, before, told], dim=-1))
        return answer[:, :4], answer[:, 4:8] - 3.0, answer[:, 8:9]

    def _described(self, rows: Tensor, xyz: Tensor, foreground: Tensor) -> Tensor:
        out = (xyz.abs() - 0.5).clamp(-2, 2)
        parts = [xyz.clamp(-3, 3), out, rows[..., 3:], foreground]
        features = torch.relu(self.embed(torch.cat(parts, dim=-1)))
        return highest(torch.relu(self.lift(features)), 1.0 - rows[..., Channel.VALID])


def highest(features: Tensor, empty: Tensor) -> Tensor:
    """Maximum (B, C) of features (B, N, C) over rows that hold a point; rows of none count as 0."""
    return (torch.relu(features) * (1.0 - empty[..., None])).amax(dim=1)


def _pooled(decoded: Points, foreground: Tensor, half: int) -> Tensor:
    """Means of the features of the foreground, of this scan and of the template (B, 2 C)."""
    weight = torch.sigmoid(foreground) * (1.0 - decoded.empty)
    sums = []
    for part in (slice(0, half), slice(half, None)):
        share = weight[:, part] / (weight[:, part].sum(dim=1, keepdim=True) + 0.1)
        sums.append((share[..., None] * decoded.features[:, part]).sum(dim=1))
    return torch.cat(sums, dim=-1)


def into(xyz: Tensor, offset: Tensor, context: Tensor) -> Tensor:
    """Points (B, N, 3) in the frame of the box at an offset (B, 4); both in units of the size, which may differ by
    axis: context[3] is the log of length over width."""
    ratio = torch.exp(context[:, 3:4])
    x, y, z = (xyz - offset[:, None, :3]).unbind(dim=-1)
    cos, sin = torch.cos(offset[:, 3:4]), torch.sin(offset[:, 3:4])
    return torch.stack([cos * x + sin * y / ratio, cos * y - sin * x * ratio, z], dim=-1)


def added(offset: Tensor, change: Tensor, context: Tensor) -> Tensor:
    """The offset (B, 4) of a box at `change` (B, 4) from the box at `offset` (B, 4)."""
    ratio = torch.exp(context[:, 3])
    x, y, z, yaw = change.unbind(dim=-1)
    cos, sin = torch.cos(offset[:, 3]), torch.sin(offset[:, 3])
    return offset + torch.stack([cos * x - sin * y / ratio, cos * y + sin * x * ratio, z, yaw], dim=-1)


def _start_near_zero(head: nn.Sequential) -> None:
    last = head[-1]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=0.002)
    nn.init.zeros_(last.bias)


class DeployedTracker(nn.Module):
    """The network with the outputs that a robot needs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, current: Tensor, template: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """`OUTPUTS` from `INPUTS`."""
        outputs = self.network(current, template, context)
        return tuple(getattr(outputs, name) for name in OUTPUTS)
