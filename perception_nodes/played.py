# SPDX-License-Identifier: Apache-2.0
"""Nodes as a replay sees them: what of a bag they get, and which of their answers is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from vision_msgs.msg import Detection3DArray

from perception_nodes import bags
from perception_nodes.bags import BagReader


@dataclass(frozen=True)
class Played:
    """`module` runs as a process; its node is `name`.

    `source` finds the bag's topic of the messages that the node answers one by one; they go to `~/input`, those of the
    bag's topics in `beside` to the private topics named there. `answer` is the private topic of the answers, which are
    recorded on the bag's topic `record`. `transforms`: the topics of the bag's transforms that the node gets; a node
    that owns a transform does not get the truth of it.
    """

    module: str
    name: str
    source: Callable[[BagReader, str | None], str]
    input: str
    kind: type[Any]
    answer: str
    answer_kind: type[Any]
    record: str
    beside: tuple[tuple[str, str, type[Any]], ...] = ()
    transforms: tuple[str, ...] = (bags.TF, bags.TF_STATIC)

    @property
    def answer_type(self) -> str:
        """Name of the answer's type in a bag."""
        return f"{self.answer_kind.__module__.split('.')[0]}/msg/{self.answer_kind.__name__}"


DETECTION = Played(
    module="perception_nodes.detection_node",
    name="detection_node",
    source=BagReader.cloud_topic,
    input="points",
    kind=PointCloud2,
    answer="detections",
    answer_kind=Detection3DArray,
    record=bags.DETECTIONS,
)
REGISTRATION = Played(
    module="perception_nodes.registration_node",
    name="registration_node",
    source=BagReader.cloud_topic,
    input="points",
    kind=PointCloud2,
    answer="odometry",
    answer_kind=Odometry,
    record=bags.ODOMETRY,
    transforms=(bags.TF_STATIC,),
)
RELOCALIZATION = Played(
    module="perception_nodes.relocalization_node",
    name="relocalization_node",
    source=BagReader.image_topic,
    input="image",
    kind=Image,
    answer="pose",
    answer_kind=PoseWithCovarianceStamped,
    record=bags.POSE,
    beside=((bags.CAMERA_INFO, "camera_info", CameraInfo),),
)
RECONSTRUCTION = Played(
    module="perception_nodes.reconstruction_node",
    name="reconstruction_node",
    source=BagReader.image_topic,
    input="image",
    kind=Image,
    answer="odometry",
    answer_kind=Odometry,
    record=bags.ODOMETRY,
    beside=((bags.CAMERA_INFO, "camera_info", CameraInfo),),
    transforms=(bags.TF_STATIC,),
)
TRACKING = Played(
    module="perception_nodes.tracking_node",
    name="tracking_node",
    source=BagReader.cloud_topic,
    input="points",
    kind=PointCloud2,
    answer="tracks",
    answer_kind=Detection3DArray,
    record=bags.TRACKS,
    beside=((bags.TRUTH_DETECTIONS, "detections", Detection3DArray),),
)
SEGMENTATION = Played(
    module="perception_nodes.segmentation_node",
    name="segmentation_node",
    source=BagReader.image_topic,
    input="image",
    kind=Image,
    answer="label_image",
    answer_kind=Image,
    record=bags.LABELS,
    beside=((bags.CAMERA_INFO, "camera_info", CameraInfo), (bags.DEPTH, "depth", Image)),
)
PLAYED = {
    "detection": DETECTION,
    "reconstruction": RECONSTRUCTION,
    "registration": REGISTRATION,
    "relocalization": RELOCALIZATION,
    "segmentation": SEGMENTATION,
    "tracking": TRACKING,
}
