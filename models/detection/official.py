# SPDX-License-Identifier: Apache-2.0
"""The published detectors at full size, with the parameter names of their checkpoints.

Their heads' conventions are translated inside the graph, so that an exported official detector has the same three
output maps as the compact one (`bev.CentreHead`): heat map and IoU as probabilities, box as
[offset x y (cells, from the cell's centre; the published heads count from its corner), z (m), log l w h (m),
sin 2 yaw, cos 2 yaw, sin yaw, cos yaw].
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from perception_models.detection.bev import gather_to_bev
from perception_models.detection.bev_backbones import (
    DsvtCenterHead,
    DynamicPillarVfe,
    DynamicVfe,
    FlatFormerCenterHead,
    ResidualBevBackbone,
    Second,
    SecondFpn,
)
from perception_models.detection.dsvt import Dsvt, SetTensors
from perception_models.detection.flatformer import FlatFormerEncoder
from perception_models.detection.official_preprocess import (
    OFFICIAL,
    DsvtSettings,
    FlatFormerSettings,
    OfficialSettings,
)

POINT_INPUTS = ("point_features", "point_last", "pillar_first", "point_pillar")
SET_INPUTS = ("members", "duplicates", "slots", "positions")


class OfficialDsvt(nn.Module):
    """DSVT for pillars (CVPR 2023): pillar encoder, rotated set attention, residual bird's-eye backbone, centre head.

    The nuScenes model's TransFusion head is not built: its output is the 384-channel bird's-eye map (1, 384, H/2, W/2).
    """

    def __init__(self, settings: DsvtSettings) -> None:
        super().__init__()
        self.settings = settings
        self.inputs = (*POINT_INPUTS, "bev_rows", *(f"{name}_{shift}" for shift in range(2) for name in SET_INPUTS))
        self.outputs = ("heatmap", "box", "iou") if settings.centre_head else ("bev",)
        self.vfe = DynamicPillarVfe(settings.channels, settings.doublings)
        self.backbone_3d = Dsvt(settings.channels, settings.heads, settings.feedforward, settings.blocks)
        self.backbone_2d = ResidualBevBackbone(settings.channels, settings.scales)
        if settings.centre_head:
            self.dense_head = DsvtCenterHead()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `inputs` (see `official_preprocess`) -> those named by `outputs`."""
        pillars = self.vfe(*tensors[:4])
        pillars = self.backbone_3d(pillars, [SetTensors(*tensors[5:9]), SetTensors(*tensors[9:13])])
        bev = self.backbone_2d(gather_to_bev(pillars, tensors[4], 1, self.settings.grid.size))
        return _dsvt_maps(self.dense_head(bev)) if self.settings.centre_head else (bev,)


class OfficialFlatFormer(nn.Module):
    """FlatFormer (CVPR 2023), one frame: pillar encoder, flattened window attention, SECOND with neck, centre head."""

    def __init__(self, settings: FlatFormerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.inputs = (*POINT_INPUTS, "bev_rows", "orders", "inverse", "positions", "token_bias")
        self.outputs = ("heatmap", "box", "iou")
        self.voxel_encoder = DynamicVfe(settings.channels, settings.doublings)
        self.middle_encoder = FlatFormerEncoder(
            settings.channels, settings.heads, settings.feedforward, settings.blocks, settings.group, settings.window
        )
        self.backbone = Second(settings.channels)
        self.neck = SecondFpn()
        self.bbox_head = FlatFormerCenterHead()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `inputs` (see `official_preprocess`) -> those named by `outputs`."""
        pillars = self.middle_encoder(self.voxel_encoder(*tensors[:4]), *tensors[5:])
        bev = gather_to_bev(pillars, tensors[4], 1, self.settings.grid.size)
        return _flatformer_maps(self.bbox_head(self.neck(self.backbone(bev))))


OfficialDetector: TypeAlias = OfficialDsvt | OfficialFlatFormer


def build_official(name: str) -> OfficialDetector:
    """The detector `name` of `OFFICIAL`, with random weights. Raises ValueError for an unknown name."""
    if name not in OFFICIAL:
        raise ValueError(f"unknown official detector {name!r}; there are {', '.join(OFFICIAL)}")
    return build_from_settings(OFFICIAL[name])


def build_from_settings(settings: OfficialSettings) -> OfficialDetector:
    """The detector that fits `settings`; smaller ones than the official serve the tests."""
    if isinstance(settings, DsvtSettings):
        return OfficialDsvt(settings)
    if isinstance(settings, FlatFormerSettings):
        return OfficialFlatFormer(settings)
    raise ValueError(f"no official detector has settings of type {type(settings).__name__}")


def _dsvt_maps(raw: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """DSVT: rot holds cosine then sine, IoU is scaled to -1..1."""
    cosine, sine = raw["rot"].chunk(2, dim=1)
    box = torch.cat([raw["center"] - 0.5, raw["center_z"], raw["dim"], *_heading(sine, cosine)], dim=1)
    return raw["hm"][0].sigmoid(), box[0], ((raw["iou"][0, 0] + 1) / 2).clamp(0, 1)


def _flatformer_maps(raw: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """FlatFormer follows MMDetection3D before 1.0: width before length; yaw = -pi / 2 - its angle (sine, cosine)."""
    sine, cosine = raw["rot"].chunk(2, dim=1)
    width, length, height = raw["dim"].chunk(3, dim=1)
    parts = [raw["reg"] - 0.5, raw["height"], length, width, height, *_heading(-cosine, -sine)]
    return raw["heatmap"][0].sigmoid(), torch.cat(parts, dim=1)[0], raw["iou"][0, 0].clamp(0, 1)


def _heading(sine: Tensor, cosine: Tensor) -> list[Tensor]:
    """Sine and cosine of twice the yaw and of the yaw, from an unnormalised pair."""
    norm = (sine.square() + cosine.square() + 1e-12).sqrt()
    sine, cosine = sine / norm, cosine / norm
    return [2 * sine * cosine, cosine.square() - sine.square(), sine, cosine]
