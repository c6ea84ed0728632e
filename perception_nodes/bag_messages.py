# SPDX-License-Identifier: Apache-2.0
"""Numpy <-> messages in bags. Boxes are (K, 7) x y z l w h yaw, stamps are integer nanoseconds, poses are (4, 4)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_nodes.bag_types import new_message
from perception_nodes.images import image_fields

DATATYPES = {"f4": 7, "u2": 4, "i4": 5}  # sensor_msgs/PointField


class Objects(NamedTuple):
    """Labelled boxes of one scan: boxes (K, 7) float32, class names, track ids and scores (K,) float32.

    `kinds`: what a data set itself calls each of them, such as Van; empty where it says no more than the name.
    """

    boxes: NDArray[np.float32]
    names: list[str]
    ids: list[str]
    scores: NDArray[np.float32]
    kinds: tuple[str, ...] = ()


def header(stamp: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    time = new_message("builtin_interfaces/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
    return new_message("std_msgs/Header", stamp=time, frame_id=frame_id)


def stamp_of(message: Any) -> int:
    """Stamp of a message with a header, in nanoseconds."""
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def encode_cloud(
    points: NDArray[np.float32],
    head: Any,
    rings: NDArray[np.uint16] | None = None,
    times: NDArray[np.float32] | None = None,
) -> Any:
    """sensor_msgs/PointCloud2 of points (N, 4) x y z intensity, with `ring` (N,) and `time` (N,) where they are known.

    `time` is in seconds since the start of the sweep.
    """
    names = ("x", "y", "z", "intensity")
    columns: dict[str, NDArray[Any]] = dict(zip(names, points.T.astype(np.float32), strict=True))
    columns |= {"ring": rings.astype(np.uint16)} if rings is not None else {}
    columns |= {"time": times.astype(np.float32)} if times is not None else {}
    return encode_columns(columns, head)


def encode_columns(columns: Mapping[str, NDArray[Any]], head: Any) -> Any:
    """sensor_msgs/PointCloud2 of columns (N,) of float32, uint16 or int32, named as its fields."""
    layout = np.dtype([(name, column.dtype) for name, column in columns.items()], align=True)
    table = np.zeros(len(next(iter(columns.values()))), layout)
    for name, column in columns.items():
        table[name] = column
    return new_message(
        "sensor_msgs/PointCloud2",
        header=head,
        height=1,
        width=len(table),
        fields=[_field(layout, name) for name in columns],
        is_bigendian=False,
        point_step=layout.itemsize,
        row_step=layout.itemsize * len(table),
        data=table.view(np.uint8),
        is_dense=True,
    )


def _field(layout: np.dtype[Any], name: str) -> Any:
    kind, offset = layout.fields[name][:2] if layout.fields else (layout, 0)
    return new_message("sensor_msgs/PointField", name=name, offset=offset, datatype=DATATYPES[kind.str[1:]], count=1)


def encode_objects(objects: Objects, head: Any) -> Any:
    """vision_msgs/Detection3DArray: `id` = track; one hypothesis a box, or two.

    The second names its kind; its score is 0, so that nobody takes it for the class.
    """
    kinds = [[_hypothesis(kind, 0.0)] for kind in objects.kinds] or [[] for _ in objects.names]
    detections = [
        new_message(
            "vision_msgs/Detection3D",
            header=head,
            results=[_hypothesis(name, float(score)), *kind],
            bbox=new_message("vision_msgs/BoundingBox3D", center=_pose_of_box(box), size=_vector(box[3:6])),
            id=track,
        )
        for box, name, track, score, kind in zip(*objects[:4], kinds, strict=True)
    ]
    return new_message("vision_msgs/Detection3DArray", header=head, detections=detections)


def decode_objects(message: Any) -> Objects:
    """Boxes of a Detection3DArray; of several hypotheses the first is the class, a second the kind."""
    boxes = np.array([_box(detection.bbox) for detection in message.detections], np.float32).reshape(-1, 7)
    first = [detection.results[0].hypothesis for detection in message.detections]
    scores = np.array([hypothesis.score for hypothesis in first], np.float32)
    has_kinds = bool(message.detections) and all(len(d.results) > 1 for d in message.detections)
    kinds = tuple(d.results[1].hypothesis.class_id for d in message.detections) if has_kinds else ()
    return Objects(boxes, [h.class_id for h in first], [d.id for d in message.detections], scores, kinds)


def encode_rectangles(rectangles: NDArray[np.floating], head: Any) -> Any:
    """vision_msgs/Detection2DArray of pixel rectangles (R, 4) left top right bottom, class `ignore`."""
    return new_message(
        "vision_msgs/Detection2DArray", header=head, detections=[_rectangle(row, head) for row in rectangles.tolist()]
    )


def _rectangle(edges: Sequence[float], head: Any) -> Any:
    left, top, right, bottom = edges
    middle = new_message("vision_msgs/Point2D", x=(left + right) / 2, y=(top + bottom) / 2)
    pose = new_message("vision_msgs/Pose2D", position=middle, theta=0.0)
    box = new_message("vision_msgs/BoundingBox2D", center=pose, size_x=right - left, size_y=bottom - top)
    return new_message("vision_msgs/Detection2D", header=head, results=[_hypothesis("ignore", 1.0)], bbox=box, id="")


def decode_rectangles(message: Any) -> NDArray[np.float64]:
    """Pixel rectangles (R, 4) left top right bottom of a Detection2DArray."""
    boxes = [detection.bbox for detection in message.detections]
    middle = np.array([[box.center.position.x, box.center.position.y] for box in boxes]).reshape(-1, 2)
    half = np.array([[box.size_x, box.size_y] for box in boxes]).reshape(-1, 2) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def encode_odometry(pose: NDArray[np.float64], head: Any, child_frame: str) -> Any:
    """nav_msgs/Odometry of a pose child -> header frame; the twist and the covariances are unknown (zero)."""
    twist = new_message("geometry_msgs/Twist", linear=_vector(np.zeros(3)), angular=_vector(np.zeros(3)))
    return new_message(
        "nav_msgs/Odometry",
        header=head,
        child_frame_id=child_frame,
        pose=new_message("geometry_msgs/PoseWithCovariance", pose=_pose(pose), covariance=np.zeros(36)),
        twist=new_message("geometry_msgs/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )


def decode_odometry(message: Any) -> NDArray[np.float64]:
    """Pose (4, 4) child -> header frame of a nav_msgs/Odometry."""
    return _matrix(message.pose.pose.position, message.pose.pose.orientation)


def encode_transforms(transforms: Sequence[tuple[str, str, NDArray[np.float64]]], stamp: int) -> Any:
    """tf2_msgs/TFMessage of (parent, child, pose of the child in the parent)."""
    stamped = [
        new_message(
            "geometry_msgs/TransformStamped",
            header=header(stamp, parent),
            child_frame_id=child,
            transform=new_message("geometry_msgs/Transform", translation=_vector(pose[:3, 3]), rotation=_turn(pose)),
        )
        for parent, child, pose in transforms
    ]
    return new_message("tf2_msgs/TFMessage", transforms=stamped)


def decode_transforms(message: Any) -> list[tuple[str, str, NDArray[np.float64]]]:
    """(parent, child, pose of the child in the parent) of each transform of a TFMessage."""
    return [
        (t.header.frame_id, t.child_frame_id, _matrix(t.transform.translation, t.transform.rotation))
        for t in message.transforms
    ]


def encode_camera(projection: NDArray[np.float64], width: int, height: int, head: Any) -> Any:
    """sensor_msgs/CameraInfo of a rectified camera: `projection` (3, 4) maps its optical frame to pixels."""
    region = new_message("sensor_msgs/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return new_message(
        "sensor_msgs/CameraInfo",
        header=head,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=projection[:, :3].ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def encode_image(pixels: NDArray[Any], head: Any) -> Any:
    """sensor_msgs/Image of colour, depth or labels; see `images.encode_image`."""
    data = np.frombuffer(pixels.tobytes(), np.uint8)
    return new_message("sensor_msgs/Image", header=head, data=data, **image_fields(pixels))


def _hypothesis(name: str, score: float) -> Any:
    pose = new_message("geometry_msgs/PoseWithCovariance", pose=_pose(np.eye(4)), covariance=np.zeros(36))
    hypothesis = new_message("vision_msgs/ObjectHypothesis", class_id=name, score=score)
    return new_message("vision_msgs/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=pose)


def _vector(values: NDArray[np.floating]) -> Any:
    x, y, z = (float(value) for value in values)
    return new_message("geometry_msgs/Vector3", x=x, y=y, z=z)


def _turn(pose: NDArray[np.float64]) -> Any:
    x, y, z, w = se3.to_quaternion(pose).tolist()
    return new_message("geometry_msgs/Quaternion", x=x, y=y, z=z, w=w)


def _pose(pose: NDArray[np.float64]) -> Any:
    x, y, z = pose[:3, 3].tolist()
    point = new_message("geometry_msgs/Point", x=x, y=y, z=z)
    return new_message("geometry_msgs/Pose", position=point, orientation=_turn(pose))


def _pose_of_box(box: NDArray[np.floating]) -> Any:
    return _pose(se3.from_yaw_pitch_roll(float(box[6]), 0, 0, box[:3]))


def _matrix(translation: Any, rotation: Any) -> NDArray[np.float64]:
    return se3.from_quaternion(
        [rotation.x, rotation.y, rotation.z, rotation.w], [translation.x, translation.y, translation.z]
    )


def _box(bbox: Any) -> list[float]:
    pose = _matrix(bbox.center.position, bbox.center.orientation)
    yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
    return [*pose[:3, 3].tolist(), bbox.size.x, bbox.size.y, bbox.size.z, yaw]
