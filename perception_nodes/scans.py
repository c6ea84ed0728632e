# SPDX-License-Identifier: Apache-2.0
"""LiDAR scans with their truth, to and from bags."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.coverage import ImageCoverage
from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_nodes import bags
from perception_nodes.bag_messages import (
    Objects,
    decode_objects,
    decode_rectangles,
    encode_camera,
    encode_cloud,
    encode_objects,
    encode_odometry,
    encode_rectangles,
    encode_transforms,
    header,
    stamp_of,
)
from perception_nodes.bag_transforms import Poses, read_transforms
from perception_nodes.bags import BadBag, BagReader, BagWriter
from perception_nodes.errors import InvalidMessage
from perception_nodes.point_clouds import decode_points, require_finite
from perception_nodes.point_times import decode_times
from perception_nodes.transform_buffer import LATEST, TransformBuffer, TransformUnavailable

LIDAR, BASE, ODOM, CAMERA = "lidar", "base_link", "odom", "camera_optical_frame"


@dataclass(frozen=True)
class Scan:
    """One scan: `points` (N, 4) float32 x y z intensity in the sensor's frame, `stamp` in nanoseconds.

    `objects`: what the truth says, None where it says nothing. `ignored` (R, 4): rectangles left, top, right, bottom
    of the covering camera's image where the truth is silent. `pose` (4, 4): base_link -> odom. `rings` (N,) and
    `times` (N,) in seconds since the start of the sweep, where they are known.
    """

    stamp: int
    points: NDArray[np.float32]
    objects: Objects | None = None
    pose: NDArray[np.float64] | None = None
    rings: NDArray[np.uint16] | None = None
    times: NDArray[np.float32] | None = None
    ignored: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))


@dataclass(frozen=True)
class Sweep:
    """One cloud: `points` (N, 3) in the sensor's frame, `times` (N,) in seconds since `stamp` where they are known, and
    `pose` (4, 4), sensor -> world, where the bag tells it."""

    stamp: int
    points: NDArray[np.float32]
    times: NDArray[np.float64] | None
    pose: NDArray[np.float64] | None


@dataclass(frozen=True)
class Camera:
    """Rectified camera that bounds the truth: projection (3, 4) of its optical frame, and its pose in the LiDAR's."""

    projection: NDArray[np.float64]
    width: int
    height: int
    pose: NDArray[np.float64]


def write_rig(bag: BagWriter, stamp: int, lidar_in_base: NDArray[np.float64], camera: Camera | None = None) -> None:
    """Write once what does not change: where the sensors stand, and which camera bounds the truth."""
    transforms = [(BASE, LIDAR, lidar_in_base)]
    if camera:
        transforms.append((LIDAR, CAMERA, camera.pose))
        message = encode_camera(camera.projection, camera.width, camera.height, header(stamp, CAMERA))
        bag.write(bags.TRUTH_COVERAGE, message, stamp)
    bag.write(bags.TF_STATIC, encode_transforms(transforms, stamp), stamp)


def write_scan(bag: BagWriter, scan: Scan) -> None:
    """Append a scan and its truth."""
    stamp, head = scan.stamp, header(scan.stamp, LIDAR)
    if scan.pose is not None:
        bag.write(bags.TF, encode_transforms([(ODOM, BASE, scan.pose)], stamp), stamp)
        bag.write(bags.TRUTH_ODOMETRY, encode_odometry(scan.pose, header(stamp, ODOM), BASE), stamp)
    if scan.objects is not None:
        bag.write(bags.TRUTH_DETECTIONS, encode_objects(scan.objects, head), stamp)
    if len(scan.ignored):
        bag.write(bags.TRUTH_IGNORED, encode_rectangles(scan.ignored, header(stamp, CAMERA)), stamp)
    bag.write(bags.POINTS, encode_cloud(scan.points, head, scan.rings, scan.times), stamp)


class ScanBag:
    """The scans of a bag with their truth, in order, each once; a context manager.

    Truth belongs to the scan of the same stamp. A cloud that no node would take is left out and counted in `rejected`.
    """

    def __init__(self, path: Path, topic: str | None = None) -> None:
        self._reader = BagReader(path)
        self._wanted = topic
        self._poses: Poses | None = None
        self.rejected: list[str] = []

    def __enter__(self) -> "ScanBag":
        self._reader.__enter__()
        self._topic = self._reader.cloud_topic(self._wanted)
        self._objects: dict[int, tuple[str, Objects]] = {}
        self._ignored: dict[int, NDArray[np.float64]] = {}
        for topic, _, message in self._reader.messages([bags.TRUTH_DETECTIONS, bags.TRUTH_IGNORED]):
            if topic == bags.TRUTH_DETECTIONS:
                self._objects[stamp_of(message)] = message.header.frame_id, decode_objects(message)
            else:
                self._ignored[stamp_of(message)] = decode_rectangles(message)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def __len__(self) -> int:
        return self._reader.count(self._topic)

    def __iter__(self) -> Iterator[Scan]:
        for _, _, message in self._reader.messages([self._topic]):
            stamp = stamp_of(message)
            try:
                points = decode_points(message)
                require_finite(points)
            except InvalidMessage as error:
                self.rejected.append(str(error))
                continue
            ignored = self._ignored.get(stamp, np.zeros((0, 4)))
            yield Scan(stamp, points, self._truth(stamp, message.header.frame_id), ignored=ignored)

    def sweeps(self) -> Iterator[Sweep]:
        """The clouds as odometry takes them: points, their times, and where the sensor was."""
        poses = Poses(self._reader)
        for _, _, message in self._reader.messages([self._topic]):
            try:
                points, times = decode_points(message)[:, :3], decode_times(message)
            except InvalidMessage as error:
                self.rejected.append(str(error))
                continue
            stamp = stamp_of(message)
            yield Sweep(stamp, points, times, poses.of(message.header.frame_id, stamp))

    def pose_of(self, stamp: int) -> NDArray[np.float64] | None:
        """Where the sensor was (4, 4), sensor -> world; None where the bag does not say."""
        if self._poses is None:
            self._poses, self._frame = Poses(self._reader), self._cloud_frame()
        return self._poses.of(self._frame, stamp)

    def _truth(self, stamp: int, frame_id: str) -> Objects | None:
        frame, objects = self._objects.get(stamp, (frame_id, None))
        if frame != frame_id:
            raise BadBag(f"{bags.TRUTH_DETECTIONS} is in the frame '{frame}', its cloud in '{frame_id}'; use one frame")
        return objects

    def recorded(self, topic: str = bags.DETECTIONS) -> dict[int, Objects]:
        """The boxes that the bag holds on a topic, by stamp, in the frame of the clouds. Raises BadBag if /tf lacks
        that frame."""
        buffer, frame = read_transforms(self._reader, [bags.TF, bags.TF_STATIC]), self._cloud_frame()
        found = {}
        for _, _, message in self._reader.messages([topic]):
            objects, stamp, given = decode_objects(message), stamp_of(message), message.header.frame_id
            if given != frame:
                moved = transform_boxes(objects.boxes, _look_up(buffer, frame, given, stamp))
                objects = objects._replace(boxes=moved.astype(np.float32))
            found[stamp] = objects
        return found

    def coverage(self) -> ImageCoverage | None:
        """The camera's view that the truth is limited to, None where it covers everything."""
        cameras = [message for _, _, message in self._reader.messages([bags.TRUTH_COVERAGE])]
        if not cameras:
            return None
        buffer = read_transforms(self._reader, [bags.TF_STATIC])
        pose = _look_up(buffer, self._cloud_frame(), cameras[0].header.frame_id, LATEST)
        projection = np.asarray(cameras[0].p, float).reshape(3, 4) @ se3.inverse(pose)
        return ImageCoverage(projection, int(cameras[0].width), int(cameras[0].height))

    def _cloud_frame(self) -> str:
        first = next(message for _, _, message in self._reader.messages([self._topic]))
        return str(first.header.frame_id)


def _look_up(buffer: TransformBuffer, target: str, source: str, stamp: int) -> NDArray[np.float64]:
    try:
        return buffer.lookup(target, source, stamp)
    except TransformUnavailable as error:
        raise BadBag(f"the bag does not join the frames '{target}' and '{source}': {error}") from None
