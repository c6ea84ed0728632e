# SPDX-License-Identifier: Apache-2.0
"""What tells the reconstruction how long a metre is: measured depth of the image's moment, or odometry's pose."""

from __future__ import annotations

from typing import NamedTuple

from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from perception_models.geometry.cameras import Floats, Matrix
from perception_nodes.camera_info import Camera
from perception_nodes.companions import Companions
from perception_nodes.errors import InvalidMessage
from perception_nodes.images import Rgb, decode_depth
from perception_nodes.messages import decode_pose
from perception_nodes.reconstruction_model import ReconstructionParameters
from perception_nodes.stamps import nanoseconds
from perception_nodes.transforms import Transforms

ODOMETRY_KEPT = 1000  # it comes at up to some hundred Hz, and an image may wait


class Measured(NamedTuple):
    """Depth (h, w) m of an image, or the pose (4, 4) of its camera by odometry; None what is not known."""

    depth: Floats | None = None
    odometry: Matrix | None = None


class ScaleDepth:
    """Depth from ~/scale_depth, registered to the image."""

    topic, kind = "~/scale_depth", Image

    def __init__(self) -> None:
        self.messages = Companions("depth", "scale_slop")

    def of(self, header: Header, camera: Camera | None, rgb: Rgb, p: ReconstructionParameters) -> Measured:
        """That of an image. Raises NoResult where there is none, InvalidMessage where it cannot be used."""
        message = self.messages.of(nanoseconds(header.stamp), p.scale_slop, p.scale_timeout)
        try:
            depth = decode_depth(message)
            depth = camera.rectify_depth(depth) if camera else depth
        except InvalidMessage as error:
            raise InvalidMessage(f"depth: {error}") from error
        (height, width), (rows, columns) = rgb.shape[:2], depth.shape
        if (rows, columns) != (height, width):
            raise InvalidMessage(f"depth is {columns} x {rows}, its image {width} x {height}: register it to the image")
        return Measured(depth=depth)


class ScaleOdometry:
    """Pose of the camera from ~/scale_odometry and TF."""

    topic, kind = "~/scale_odometry", Odometry

    def __init__(self, transforms: Transforms) -> None:
        self.messages = Companions("odometry", "scale_slop", ODOMETRY_KEPT)
        self._transforms = transforms

    def of(self, header: Header, camera: Camera | None, rgb: Rgb, p: ReconstructionParameters) -> Measured:
        """As ScaleDepth; raises TransformUnavailable too, where the camera's place on what moves is not known."""
        message = self.messages.of(nanoseconds(header.stamp), p.scale_slop, p.scale_timeout)
        pose, child = decode_pose(message.pose.pose), message.child_frame_id
        if not child:
            raise InvalidMessage(
                "odometry: there is no child_frame_id, so what moves is not known; set it at its source"
            )
        if child != header.frame_id:
            pose = pose @ self._transforms.lookup(child, header.frame_id, header.stamp, p.tf_timeout)
        return Measured(odometry=pose)


ScaleSource = ScaleDepth | ScaleOdometry


def scale_source(name: str, transforms: Transforms) -> ScaleSource | None:
    """The one of a name, none where the network's own metres count."""
    if name == "none":
        return None
    return ScaleDepth() if name == "depth" else ScaleOdometry(transforms)
