# SPDX-License-Identifier: Apache-2.0
"""M2-Track with the names and shapes of its published checkpoints (Zheng et al., "Beyond 3D Siamese Tracking: A
Motion-Centric Paradigm for 3D Single Object Tracking in Point Clouds", CVPR 2022), box-aware, for one category."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POINTS = 1024  # of each of the two scans
CHANNELS = 14  # x y z, time, prior target mask, distances to the box's centre and its 8 corners
INPUTS = ("points",)
OUTPUTS = ("box", "motion", "motion_state", "previous", "foreground")
SHORT = 1  # layer whose features of a point meet those of the whole


class SegPointNet(nn.Module):
    """Foreground (2) and distances to centre and corners (9) of each point."""

    def __init__(self) -> None:
        super().__init__()
        self.seq_per_point = _layers(CHANNELS, 64, 64, 64, 128, 1024)
        self.seq_per_point2 = _layers(64 + 1024, 512, 256, 128, 128)
        self.fc = nn.Conv1d(128, 2 + 9, 1)

    def forward(self, points: Tensor) -> Tensor:
        """Points (B, 14, N) -> (B, 11, N)."""
        features, short = points, points
        for number, layer in enumerate(self.seq_per_point):
            features = layer(features)
            short = features if number == SHORT else short
        whole = features.amax(dim=2, keepdim=True).expand(-1, -1, points.shape[2])
        features = torch.cat([short, whole], dim=1)
        for layer in self.seq_per_point2:
            features = layer(features)
        told: Tensor = self.fc(features)
        return told


class MiniPointNet(nn.Module):
    """One vector (B, 256) of points (B, given, N)."""

    def __init__(self, given: int) -> None:
        super().__init__()
        widths = (given, 64, 128, 256, 512)
        layers: list[nn.Module] = []
        for a, b in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU()]
        layers += [nn.AdaptiveMaxPool1d(1), nn.Flatten()]
        for a, b in ((512, 512), (512, 256)):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        self.features = nn.Sequential(*layers)

    def forward(self, points: Tensor) -> Tensor:
        """The vector."""
        vector: Tensor = self.features(points)
        return vector


class M2Track(nn.Module):
    """Points of two scans in the frame of the previous box, in metres -> the box in the second, seen from there."""

    def __init__(self) -> None:
        super().__init__()
        self.seg_pointnet = SegPointNet()
        self.mini_pointnet = MiniPointNet(4 + 9)
        self.mini_pointnet2 = MiniPointNet(3 + 9)
        self.box_mlp, self.final_mlp, self.motion_state_mlp, self.motion_mlp = (_head(k) for k in (4, 4, 2, 4))

    def forward(self, points: Tensor) -> tuple[Tensor, ...]:
        """Points (B, 14, 2 x 1024), those of the previous scan first -> `OUTPUTS`: box, motion, previous (B, 4) x y z,
        m, and yaw; motion_state (B, 2) logits of standing and moving; foreground (B, 2, 2048) logits."""
        told = self.seg_pointnet(points)
        foreground, distances = told[:, :2], told[:, 2:]
        mask = (foreground[:, 1:] > foreground[:, :1]).to(points.dtype)
        target = torch.cat([points[:, :4] * mask, distances * mask], dim=1)
        vector = self.mini_pointnet(target)
        state, previous = self.motion_state_mlp(vector), self.final_mlp(vector)
        motion = self.motion_mlp(vector) * (state[:, 1:] > state[:, :1]).to(points.dtype)
        aux = _moved(previous, motion)
        box = self.box_mlp(self.mini_pointnet2(self._merged(target, motion, aux)))
        return _moved(aux, box), motion, state, previous, foreground

    def _merged(self, target: Tensor, motion: Tensor, aux: Tensor) -> Tensor:
        """Foreground of both scans in the frame of the first answer, that of the previous scan moved along."""
        half = target.shape[2] // 2
        before = _turn(target[:, :3, :half], motion[:, 3]) + motion[:, :3, None]
        xyz = torch.cat([before, target[:, :3, half:]], dim=2) - aux[:, :3, None]
        return torch.cat([_turn(xyz, -aux[:, 3]), target[:, 4:]], dim=1)


def _moved(box: Tensor, motion: Tensor) -> Tensor:
    """A box (B, 4) after a motion (B, 4) in its own frame."""
    return torch.cat([box[:, :3] + _turn(motion[:, :3, None], box[:, 3])[..., 0], box[:, 3:] + motion[:, 3:]], dim=1)


def _turn(points: Tensor, angle: Tensor) -> Tensor:
    """Points (B, 3, N) turned about z by angles (B,)."""
    cos, sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z], dim=1)


def _layers(*widths: int) -> nn.ModuleList:
    pairs = zip(widths, widths[1:], strict=False)
    return nn.ModuleList(nn.Sequential(nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairs)


def _head(outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((256, 128), (128, 128)):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, outputs))
