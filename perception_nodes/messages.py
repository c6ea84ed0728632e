# SPDX-License-Identifier: Apache-2.0
"""ROS messages <-> numpy, nothing else: clouds (see point_clouds), 3D detections and poses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Transform, Vector3
from numpy.typing import NDArray
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose

from perception_models.classes import CLASSES
from perception_models.detection import Detections
from perception_models.geometry import se3
from perception_nodes.errors import InvalidMessage
from perception_nodes.markers import encode_markers
from perception_nodes.point_clouds import Points, decode_points, encode_points, require_finite

__all__ = [
    "CLASSES",
    "InvalidMessage",
    "Points",
    "decode_box",
    "decode_detections",
    "decode_ids",
    "decode_points",
    "decode_pose",
    "decode_transform",
    "encode_box",
    "encode_detections",
    "encode_markers",
    "encode_points",
    "encode_pose",
    "encode_pose_with_covariance",
    "encode_transform",
    "require_finite",
]


def encode_detections(
    detections: Detections, header: Header, ids: Sequence[int | str] | None = None
) -> Detection3DArray:
    """Detections as a message: boxes (K, 7) in metres and radians in the frame of the header, one hypothesis each.

    The hypothesis carries the class name and the score; `ids` (K) are track ids, none gives empty ids.
    Raises ValueError where a box or a score is not finite.
    """
    if not (np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()):
        raise ValueError("the detections hold boxes or scores that are not finite")
    names = [detections.names[label] for label in detections.labels]
    ids = [""] * len(names) if ids is None else ids
    rows = zip(detections.boxes, detections.scores.tolist(), names, ids, strict=True)
    return Detection3DArray(header=header, detections=[_detection(header, *row) for row in rows])


def decode_detections(message: Detection3DArray, names: tuple[str, ...] = CLASSES) -> Detections:
    """Inverse of `encode_detections`. The best hypothesis of each counts; classes not in `names` are appended to it.

    Raises InvalidMessage where a detection has no hypothesis or no valid box.
    """
    best = [_best_hypothesis(detection) for detection in message.detections]
    names = tuple(dict.fromkeys((*names, *(hypothesis.class_id for hypothesis in best))))
    boxes = [decode_box(detection.bbox) for detection in message.detections]
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 7),
        scores=np.array([hypothesis.score for hypothesis in best], np.float32),
        labels=np.array([names.index(hypothesis.class_id) for hypothesis in best], np.int64),
        names=names,
    )


def decode_ids(message: Detection3DArray) -> tuple[str, ...]:
    """The track ids of the detections, empty where a detection has none."""
    return tuple(detection.id for detection in message.detections)


def encode_box(box: NDArray[np.floating]) -> BoundingBox3D:
    """Box (7,) x y z l w h yaw as a message: its centre, its heading about +z, its size l w h."""
    message = BoundingBox3D()
    _fill(message, box)
    return message


def decode_box(message: BoundingBox3D) -> NDArray[np.float64]:
    """Box (7,) x y z l w h yaw; of the orientation only the heading is kept.

    Raises InvalidMessage where a value is not finite, a side is not positive or the orientation is no rotation.
    """
    heading = decode_pose(message.center)[:2, 0]
    size = [message.size.x, message.size.y, message.size.z]
    if not (np.isfinite(size).all() and min(size) > 0):
        raise InvalidMessage(f"box size {size} is not three positive lengths in metres")
    position = message.center.position
    return np.array([position.x, position.y, position.z, *size, np.arctan2(heading[1], heading[0])])


def encode_pose(pose: se3.Matrix) -> Pose:
    """Transform (4, 4) as a pose message."""
    (x, y, z), (qx, qy, qz, qw) = pose[:3, 3].tolist(), se3.to_quaternion(pose).tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def encode_pose_with_covariance(pose: se3.Matrix, covariance: NDArray[np.float64]) -> PoseWithCovariance:
    """Transform (4, 4) and its covariance (6, 6), translation before rotation, about the fixed axes of the header's
    frame. Raises ValueError where a value is not finite."""
    if not (np.isfinite(pose).all() and np.isfinite(covariance).all()):
        raise ValueError("the pose or its covariance is not finite")
    return PoseWithCovariance(pose=encode_pose(pose), covariance=covariance.ravel())


def decode_pose(message: Pose) -> se3.Matrix:
    """Pose message as a transform (4, 4). Raises InvalidMessage where it is not finite or no rotation."""
    return _transform(message.position, message.orientation)


def encode_transform(pose: se3.Matrix) -> Transform:
    """Transform (4, 4) as a transform message."""
    message = encode_pose(pose)
    position = message.position
    return Transform(translation=Vector3(x=position.x, y=position.y, z=position.z), rotation=message.orientation)


def decode_transform(message: Transform) -> se3.Matrix:
    """Transform message as (4, 4). Raises InvalidMessage where it is not finite or no rotation."""
    return _transform(message.translation, message.rotation)


def _transform(position: Point | Vector3, rotation: Quaternion) -> se3.Matrix:
    translation = [position.x, position.y, position.z]
    if not np.isfinite(translation).all():
        raise InvalidMessage(f"position {translation} is not finite")
    try:
        return se3.from_quaternion([rotation.x, rotation.y, rotation.z, rotation.w], translation)
    except ValueError as error:
        raise InvalidMessage(str(error)) from error


def _detection(header: Header, box: NDArray[np.floating], score: float, name: str, id_: int | str) -> Detection3D:
    """Filled in place: a constructor that is given its parts builds their defaults all the same."""
    detection, hypothesis = Detection3D(), ObjectHypothesisWithPose()
    detection.header, detection.id, detection.results = header, str(id_), [hypothesis]
    _fill(detection.bbox, box)
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = name, score
    hypothesis.pose.pose = detection.bbox.center
    return detection


def _fill(message: BoundingBox3D, box: NDArray[np.floating]) -> None:
    position, heading, size = message.center.position, message.center.orientation, message.size
    position.x, position.y, position.z, size.x, size.y, size.z, yaw = box.tolist()
    heading.z, heading.w = math.sin(yaw / 2), math.cos(yaw / 2)


def _best_hypothesis(detection: Detection3D) -> ObjectHypothesis:
    if not detection.results:
        raise InvalidMessage(f"detection '{detection.id}' has no hypothesis; give it a class_id and a score")
    return max((result.hypothesis for result in detection.results), key=lambda hypothesis: hypothesis.score)
