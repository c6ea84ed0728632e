# SPDX-License-Identifier: Apache-2.0
"""Which images become key frames, and the depth that belongs to each: of a depth camera, or of a LiDAR's points."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, PointCloud2

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats
from perception_models.segmentation.lidar_depth import depth_from_points
from perception_nodes.camera_info import Camera
from perception_nodes.errors import InvalidMessage, NoResult
from perception_nodes.images import decode_depth
from perception_nodes.messages import decode_points, require_finite
from perception_nodes.segmentation_model import SegmentationParameters
from perception_nodes.stamps import nanoseconds
from perception_nodes.transforms import Transforms

KEPT = 20  # messages that wait for their image
POINTS_SLOP = 10.0  # times depth_slop: a LiDAR does not sweep when a camera looks


class KeyFrames:
    """Chooses images by the way, the turning and the time since the last that the map took."""

    def __init__(self) -> None:
        self._last: tuple[se3.Matrix, int] | None = None

    def wants(self, pose: se3.Matrix, stamp: int, p: SegmentationParameters) -> bool:
        """Whether the image of a pose (4, 4) and a stamp (ns) is worth it."""
        if self._last is None:
            return True
        step = se3.inverse(self._last[0]) @ pose
        seconds = (stamp - self._last[1]) * 1e-9
        far = float(np.linalg.norm(step[:3, 3])) >= p.key_distance
        return bool(far or se3.rotation_angle(step) >= p.key_angle or seconds >= p.key_time)

    def took(self, pose: se3.Matrix, stamp: int) -> None:
        """It became one."""
        self._last = pose, stamp


class Companions:
    """The newest messages of a topic, by stamp, put in on one thread and waited for on another."""

    def __init__(self) -> None:
        self._messages: dict[int, Any] = {}
        self._changed = threading.Condition()

    def put(self, message: Any) -> None:
        """One more; the oldest goes."""
        with self._changed:
            stamp = nanoseconds(message.header.stamp)
            self._messages.pop(stamp, None)  # so that it counts as new where a source starts again
            self._messages[stamp] = message
            while len(self._messages) > KEPT:
                del self._messages[next(iter(self._messages))]
            self._changed.notify_all()

    def of(self, stamp: int, slop: float, timeout: float) -> Any:
        """The message nearest to a stamp (ns), no more than `slop` seconds from it; waits up to `timeout` seconds.

        Raises NoResult where there is none.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                near = min(self._messages, key=lambda one: abs(one - stamp), default=None)
                if near is not None and abs(near - stamp) <= slop * 1e9:
                    return self._messages[near]
                if not self._changed.wait(end - time.monotonic()):
                    raise NoResult(_missing(stamp, near, slop))


def _missing(stamp: int, near: int | None, slop: float) -> str:
    if near is None:
        return "the view has no depth: nothing came on its topic yet; is it published and remapped?"
    return (
        f"the view has no depth: the nearest is {abs(near - stamp) * 1e-9:.3f} s away, depth_slop allows {slop:g} s; "
        "synchronise the sensors"
    )


class DepthImages:
    """Depth (H, W) in metres from ~/depth, registered to the image."""

    topic, kind = "~/depth", Image

    def __init__(self) -> None:
        self.messages = Companions()

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
        self.messages = Companions()
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
