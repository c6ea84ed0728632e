# SPDX-License-Identifier: Apache-2.0
"""The two networks of the unified trackers behind one interface: MoCUT, and SiamCUT, which compares appearance.

SiamCUT (Nie et al., ICLR 2024, section 3.4, on P2B, Qi et al., CVPR 2020): template and search region go through the
same backbone, apart from each other; then the template is looked up by every point of the search region.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.tracking.adaformer import OUT, AdaFormerBlock, Points, mlp, spread
from perception_models.tracking.network import DECODED, RADII, TrackingNetwork, highest
from perception_models.tracking.settings import TrackingSettings


def build(settings: TrackingSettings) -> TrackingNetwork:
    """The network that the settings ask for. Raises ValueError for an unknown kind."""
    kinds = {"motion": TrackingNetwork, "siamese": SiameseNetwork}
    if settings.kind not in kinds:
        raise ValueError(f"unknown kind of tracker {settings.kind!r}; choose one of {', '.join(kinds)}")
    return kinds[settings.kind](settings)


class SiameseNetwork(TrackingNetwork):
    """Three stages for each set of points, with the same weights; similarity joins them at the last one."""

    def __init__(self, settings: TrackingSettings) -> None:
        super().__init__(settings)
        c = settings.channels[2]
        self.similar = nn.Linear(c, c)
        self.matched = mlp(2 * c + 4, c, c)
        self.across = AdaFormerBlock(c, c, settings.neighbours[2])
        self.decode = mlp(sum(settings.channels), DECODED, DECODED)

    def _features(self, current: Points, template: Points) -> tuple[Points, Tensor]:
        """Features at the first-stage queries of both sets, and of the whole (B, C)."""
        now, before = self._stages(current, 1), self._stages(template, 2)
        found = self.across(*(2 * (self._looked_up(now[2], before[2]),)))
        both = [_decoded([*now[:2], found]), _decoded(before)]
        features = [torch.relu(self.decode(one.features)) for one in both]
        joined = Points.joined(*(Points(one.xyz, f, one.empty) for one, f in zip(both, features, strict=True)))
        return joined, highest(found.features, found.empty)

    def _stages(self, points: Points, divisor: int) -> list[Points]:
        stages = []
        for block, count in zip((self.local, self.joint, self.wide), self.settings.queries, strict=True):
            points = block(points.first(count // divisor), points)
            stages.append(points)
        return stages

    def _looked_up(self, now: Points, before: Points) -> Points:
        """Points of this scan with the most similar features of the template, and where these are in the object."""
        similar = self.similar(now.features) @ before.features.transpose(1, 2) / before.features.shape[-1] ** 0.5
        share = torch.softmax(similar - OUT * before.empty[:, None], dim=-1)
        best = (similar - OUT * before.empty[:, None]).amax(dim=-1, keepdim=True).clamp(min=-10.0)
        parts = [now.features, share @ before.features, share @ before.xyz, best]
        return Points(now.xyz, self.matched(torch.cat(parts, dim=-1)), now.empty)


def _decoded(stages: list[Points]) -> Points:
    """What all stages know, at the points of the first."""
    first = stages[0]
    raised = [spread(values, first.xyz, radius) for values, radius in zip(stages[1:], RADII, strict=True)]
    return Points(first.xyz, torch.cat([first.features, *raised], dim=-1), first.empty)
