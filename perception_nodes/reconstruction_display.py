# SPDX-License-Identifier: Apache-2.0
"""Views and their map as messages: coloured clouds, a depth image and its camera."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from perception_models.reconstruction import CloudMap, View
from perception_nodes.images import encode_image
from perception_nodes.point_clouds import encode_points, packed_colors


def view_cloud(view: View, least: float, header: Header) -> PointCloud2:
    """Cloud x y z rgb confidence of the pixels of which the network is as sure as `least`."""
    sure = view.confident(least)
    extra = {"rgb": packed_colors(view.rgb[sure]), "confidence": view.confidence[sure].astype(np.float32)}
    return encode_points(view.points[sure], header, extra)


def map_cloud(cloud_map: CloudMap, header: Header) -> PointCloud2:
    """Cloud x y z rgb of the whole map."""
    return encode_points(cloud_map.points, header, {"rgb": packed_colors(cloud_map.colors)})


def depth_image(view: View, least: float, header: Header) -> Image:
    """32FC1 in metres along the optical axis; NaN, as REP-118 has it, where the network is less sure than `least`."""
    return encode_image(np.where(view.confident(least), view.depth, np.float32(np.nan)).astype(np.float32), header)


def depth_camera(view: View, header: Header) -> CameraInfo:
    """The camera of the depth image, which has no distortion."""
    height, width = view.depth.shape
    matrix = view.camera_matrix
    return CameraInfo(
        header=header,
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=matrix.ravel(),
        r=np.eye(3).ravel(),
        p=np.column_stack([matrix, np.zeros(3)]).ravel(),
    )
