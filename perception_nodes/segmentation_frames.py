# SPDX-License-Identifier: Apache-2.0
"""The depth that belongs to an image: of a depth camera, or of a LiDAR's points."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image, PointCloud2

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats
from perception_models.segmentation.lidar_depth import depth_from_points
from perception_nodes.camera_info import Camera
from perception_nodes.companions import Companions
from perception_nodes.errors import InvalidMessage
from perception_nodes.images import decode_depth
from perception_nodes.messages import decode_points, require_finite
from perception_nodes.segmentation_model import SegmentationParameters
from perception_nodes.transforms import Transforms

POINTS_SLOP = 10.0  # times depth_slop: a LiDAR does not sweep when a camera looks


class DepthImages:
    """Depth (H, W) in metres from ~/depth, registered to the image."""

    topic, kind = "~/depth", Image

    def __init__(self) -> None:
        self.messages = Companions("depth", "depth_slop")

    def of(self, stamp: int, camera: Camera, pose: se3.Matrix, p: SegmentationParameters) -> Floats:
        """That of an image's stamp. Raises NoResult where there is none, InvalidMessage where it cannot be used."""
        message = self.messages.of(stamp, p.depth_slop, p.depth_timeout)
        try:
            return camera.rectify_depth(decode_depth(message))
        except InvalidMessage as error:
            raise InvalidMessage(f"depth: {error}") from error


class LidarDepth:
    """Depth (H, W) in metres from ~/points, moved to where the camera was at the image's stamp."""

    topic, kind = "~/points", PointCloud2

    def __init__(self, transforms: Transforms, map_frame: str) -> None:
        self.messages = Companions("depth", "depth_slop")
        self._transforms, self._map_frame = transforms, map_frame

    def of(self, stamp: int, camera: Camera, pose: se3.Matrix, p: SegmentationParameters) -> Floats:
        """As DepthImages; `pose` (4, 4) is the camera's in the map. Raises TransformUnavailable too."""
        cloud = self.messages.of(stamp, POINTS_SLOP * p.depth_slop, p.depth_timeout)
        points = decode_points(cloud)[:, :3]
        require_finite(points)
        points = points[np.isfinite(points).all(axis=1)]
        placed = self._transforms.lookup(self._map_frame, cloud.header.frame_id, cloud.header.stamp, p.tf_timeout)
        local = se3.apply(se3.inverse(pose) @ placed, points)
        return depth_from_points(local.astype(np.float32), camera.matrix, camera.width, camera.height)


DepthSource = DepthImages | LidarDepth
