# SPDX-License-Identifier: Apache-2.0
"""The message types that bags of this package hold, as the pure Python bag library knows them."""

from functools import cache
from typing import Any

from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

# vision_msgs is not part of the library's ROS distributions. Same names and fields as the official package (4.1), so
# the type hashes agree and a robot reads these bags.
_VISION_MSGS = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "Point2D position\nfloat64 theta",
    "BoundingBox2D": "Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections",
    "Detection3D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox3D bbox\nstring id",
    "Detection3DArray": "std_msgs/Header header\nDetection3D[] detections",
}


@cache
def bag_types() -> Typestore:
    """Type store of ROS 2 Kilted with vision_msgs added."""
    store = get_typestore(Stores.ROS2_KILTED)
    types: Typesdict = {}
    for name, definition in _VISION_MSGS.items():
        types.update(get_types_from_msg(definition, f"vision_msgs/msg/{name}"))
    store.register(types)
    return store


def new_message(name: str, /, **fields: Any) -> Any:
    """A message of the type `package/Name`, such as `std_msgs/Header`, with all its fields given."""
    return bag_types().types[name.replace("/", "/msg/")](**fields)
