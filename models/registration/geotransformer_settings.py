# SPDX-License-Identifier: Apache-2.0
"""The published configurations of GeoTransformer (Qin et al., CVPR 2022): widths, lengths and counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class GeoTransformerSettings:
    """Lengths in metres (unit spheres for ModelNet) of the finest stage; voxel, radius and sigma double each stage."""

    stages: int
    voxel: float
    radius: float
    sigma: float  # reach of a kernel point
    neighbours: tuple[int, ...]  # most neighbours of a point, by stage
    fine_stage: int  # whose points are matched; 0 is the finest
    hidden: int  # channels of the transformer
    distance_sigma: float
    patch_points: int
    patch_pairs: int
    mutual: int  # a point's best partners that may be mutual
    acceptance: float  # how far a match may be off and agree with a transform
    dustbin: float = 1.0  # score of having no partner; learned
    angle_sigma: float = 15.0  # degrees
    width: int = 64  # channels of the first convolution
    channels: int = 256  # of descriptors
    groups: int = 32
    heads: int = 4
    rounds: int = 3  # of self- and cross-attention

    @property
    def coarse_channels(self) -> int:
        """Channels of super-points before the transformer."""
        return int(self.width * 2**self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for model.yaml."""
        return {**asdict(self), "neighbours": list(self.neighbours)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GeoTransformerSettings:
        """The settings that `to_dict` wrote. Raises TypeError for missing and unknown names."""
        return cls(**{**values, "neighbours": tuple(values["neighbours"])})


# Neighbour limits are calibrated on the training set; those of 3DMatch are published, the others are ours: about what
# keeps four fifths of the neighbours of surfaces.
PUBLISHED = {
    "geotransformer_3dmatch": GeoTransformerSettings(
        stages=4, voxel=0.025, radius=0.0625, sigma=0.05, neighbours=(38, 36, 36, 38), fine_stage=1, hidden=256,
        distance_sigma=0.2, patch_points=64, patch_pairs=256, mutual=3, acceptance=0.1,
    ),
    "geotransformer_kitti": GeoTransformerSettings(
        stages=5, voxel=0.3, radius=1.275, sigma=0.6, neighbours=(48, 48, 56, 64, 64), fine_stage=1, hidden=128,
        distance_sigma=4.8, patch_points=128, patch_pairs=256, mutual=2, acceptance=0.6,
    ),
    "geotransformer_modelnet": GeoTransformerSettings(
        stages=3, voxel=0.05, radius=0.125, sigma=0.1, neighbours=(38, 36, 36), fine_stage=0, hidden=256,
        distance_sigma=0.2, patch_points=128, patch_pairs=128, mutual=3, acceptance=0.1,
    ),
}  # fmt: skip
