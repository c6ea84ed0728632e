# SPDX-License-Identifier: Apache-2.0
"""What the segmentation node is set to, and the map that it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from perception_models.segmentation.online import InstanceMap
from perception_models.segmentation.online_parts import SegmenterParts
from perception_models.segmentation.online_settings import OnlineSettings
from perception_nodes.parameters import Parameters, parameter


@dataclass(frozen=True)
class SegmentationParameters(Parameters):
    """Run-time tuning of the segmentation node; facts of the model travel with its weights."""

    variant: str = parameter("compact", "weights: a folder of models/segmentation/weights", fixed=True)
    backend: str = parameter(
        "auto", "engine; auto is TensorRT where it runs", choices=("auto", "onnxruntime", "tensorrt"), fixed=True
    )
    threads: int = parameter(0, "threads of the engine on the CPU; 0 lets it choose", low=0, high=256, fixed=True)
    map_frame: str = parameter("map", "frame that stands still, in which TF tells where the camera is", fixed=True)
    tf_timeout: float = parameter(0.1, "longest wait for a transform at the image's stamp", unit="s", low=0.0, high=5.0)
    image_is_rectified: bool = parameter(False, "images come without distortion, and P of their camera info counts")
    depth_source: str = parameter(
        "depth", "what tells distances: ~/depth, registered to the image, or ~/points of a LiDAR",
        choices=("depth", "points"), fixed=True,
    )  # fmt: skip
    depth_timeout: float = parameter(0.2, "longest wait for depth of the image's stamp", unit="s", low=0.0, high=5.0)
    depth_slop: float = parameter(
        0.01, "depth so much older or newer than the image is taken for it; of ~/points, ten times as much",
        unit="s", low=0.0, high=1.0,
    )  # fmt: skip
    key_distance: float = parameter(
        0.15, "an image becomes a key frame after so much way; 0: every image", unit="m", low=0.0, high=10.0
    )
    key_angle: float = parameter(0.2, "or after so much turning; 0: every image", unit="rad", low=0.0, high=3.2)
    key_time: float = parameter(
        5.0, "or after so much time, as things move; 0: every image", unit="s", low=0.0, high=3600.0
    )
    voxel: float = parameter(0.02, "edge of a voxel of the map", unit="m", low=0.005, high=0.5, fixed=True)
    min_depth: float = parameter(0.2, "what is nearer is not used", unit="m", low=0.0, high=10.0, fixed=True)
    max_depth: float = parameter(4.0, "what is farther is not used", unit="m", low=0.1, high=100.0, fixed=True)
    keep_radius: float = parameter(
        8.0, "within it around the camera nothing is forgotten", unit="m", low=0.0, high=1000.0, fixed=True
    )
    keep_time: float = parameter(
        60.0, "what was seen so recently is not forgotten", unit="s", low=0.0, high=86400.0, fixed=True
    )
    capacity: int = parameter(
        600_000, "voxels of the map; beyond, the farthest are forgotten", low=1000, high=10_000_000, fixed=True
    )
    smallest: int = parameter(60, "voxels of an object that is told of", low=1, high=100_000, fixed=True)
    largest: float = parameter(
        3.0, "longest side of an object that is told of: floor and walls are none", unit="m", low=0.1, high=1000.0
    )
    click_distance: float = parameter(
        0.1, "farthest point of the map from a clicked point", unit="m", low=0.0, high=5.0
    )
    color_by: str = parameter(
        "instance", "colours of ~/labelled_points: one an instance, or as the camera saw it",
        choices=("instance", "camera"),
    )  # fmt: skip
    cloud_period: float = parameter(
        1.0, "least time between two ~/labelled_points, which hold the whole map", unit="s", low=0.0, high=3600.0
    )
    publish_markers: bool = parameter(True, "publish ~/markers where someone listens")
    save_file: str = parameter("", "file .ply that ~/save_map writes")

    def problems(self) -> list[str]:
        """Depths must leave a range, and the file must be one that others recognise."""
        empty = [] if self.min_depth < self.max_depth else ["min_depth is not less than max_depth"]
        is_other = self.save_file and not self.save_file.endswith(".ply")
        return super().problems() + empty + ([f"save_file '{self.save_file}' does not end in .ply"] if is_other else [])


def load_map(parameters: SegmentationParameters) -> InstanceMap:
    """An empty map with the model that the parameters ask for."""
    p = parameters
    parts = SegmenterParts.load(p.variant, p.backend, p.threads or None, p.voxel)
    settings = OnlineSettings(
        voxel=p.voxel,
        min_depth=p.min_depth,
        max_depth=p.max_depth,
        keep_radius=p.keep_radius,
        keep_time=p.keep_time,
        capacity=p.capacity,
        smallest=p.smallest,
    )
    return InstanceMap(parts, settings)
