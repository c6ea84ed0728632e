# SPDX-License-Identifier: Apache-2.0
"""The compact detector: point-to-pillar attention, flattened window attention, bird's-eye pyramid, centre head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.detection.bev import BevPyramid, CentreHead, gather_to_bev
from perception_models.detection.flatformer import FlatFormerEncoder
from perception_models.detection.pillar_attention import PointMaxPool, PointToPillarAttention
from perception_models.detection.preprocess import POINT_FEATURES, STATISTICS
from perception_models.detection.settings import DetectionSettings

INPUTS = (
    "occupancy",
    "statistics",
    "bev_rows",
    "points",
    "point_bias",
    "orders",
    "inverse",
    "positions",
    "token_bias",
)
OUTPUTS = ("heatmap", "box", "iou")


class CompactDetector(nn.Module):
    """All pillars carry an occupancy code; those that rise above the ground also attend to their points and to each
    other.

    `attention=False` gives the plain pillar U-Net (max pooling, no attention) of the model card's comparison.
    """

    def __init__(self, settings: DetectionSettings, channels: int = 64, heads: int = 4, attention: bool = True) -> None:
        super().__init__()
        self.settings = settings
        self.code = nn.Linear(settings.occupancy_bits + STATISTICS, channels)
        self.flat_norm = nn.LayerNorm(channels)
        self.aggregate: nn.Module
        self.encoder: FlatFormerEncoder | None
        if attention:
            self.aggregate = PointToPillarAttention(POINT_FEATURES, channels, heads)
            self.encoder = FlatFormerEncoder(
                channels, heads, 2 * channels, blocks=1, group=settings.group, window=settings.window
            )
        else:
            self.aggregate = PointMaxPool(POINT_FEATURES, channels)
            self.encoder = None
        self.reduce = nn.Linear(channels, channels // 2)
        self.pyramid = BevPyramid(channels // 2)
        self.head = CentreHead(48, len(settings.classes))

    def forward(
        self,
        occupancy: Tensor,
        statistics: Tensor,
        bev_rows: Tensor,
        points: Tensor,
        point_bias: Tensor,
        orders: Tensor,
        inverse: Tensor,
        positions: Tensor,
        token_bias: Tensor,
        batch: int = 1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors as in `NetworkInput` (for a batch: as `collate` joins them) -> the three maps of `CentreHead`, heat
        map and IoU as logits."""
        code = self.code(torch.cat([occupancy.to(statistics.dtype), statistics], dim=1))
        count = points.shape[0]
        tokens = self.aggregate(points, point_bias, code[:count])
        if self.encoder is not None:
            tokens = self.encoder(tokens, orders, inverse, positions, token_bias)
        rows = torch.cat([tokens, self.flat_norm(code[count:]).to(tokens.dtype)])
        bev = gather_to_bev(self.reduce(rows), bev_rows, batch, self.settings.grid.size)
        return self.head(self.pyramid(bev))  # type: ignore[no-any-return]


class DeployedDetector(nn.Module):
    """What is exported: one scan in; heat map (classes, H, W) and IoU (H, W) as probabilities, box (10, H, W)."""

    def __init__(self, network: CompactDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors in the order of `INPUTS` -> heatmap, box, iou."""
        heatmap, box, iou = self.network(*tensors)
        return torch.sigmoid(heatmap[0]), box[0], torch.sigmoid(iou[0, 0])
