# SPDX-License-Identifier: Apache-2.0
"""Writes bags with their truth, and reads any bag's clouds with the truth that it carries.

A bag of this package holds (frames and names as REP-105; `base_link` carries the sensor):
  /points                          PointCloud2 x y z intensity, with `ring` and `time` where they are known
  /ground_truth/detections         Detection3DArray in the cloud's frame, the cloud's stamp; `id` = track; a second
                                   hypothesis (score 0) is what the data set calls the object, such as Van
  /ground_truth/odometry           Odometry odom -> base_link
  /ground_truth/coverage           CameraInfo, once: the truth covers what this camera sees. Absent: it covers all
  /ground_truth/ignored_regions    Detection2DArray: rectangles in that camera's image where the truth is silent
  /ground_truth/instances          PointCloud2 x y z label of what the camera sees, one label an object, 0 none
  /camera/image, /camera/depth     Image in colour, and of metric depth registered to it, with one stamp
  /camera/camera_info              CameraInfo of both
  /tf, /tf_static                  odom -> base_link; base_link -> lidar -> camera
An object whose class is none of the detector's marks a place where the truth is silent, by convention `ignore`.
"""

import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from perception_nodes.bag_types import bag_types

POINTS = "/points"
IMAGE, DEPTH, CAMERA_INFO = "/camera/image", "/camera/depth", "/camera/camera_info"
# What replayed nodes answered.
DETECTIONS, ODOMETRY, POSE, TRACKS, LABELS = "/detections", "/odometry", "/pose", "/tracks", "/label_image"
TRUTH_DETECTIONS = "/ground_truth/detections"
TRUTH_ODOMETRY = "/ground_truth/odometry"
TRUTH_COVERAGE = "/ground_truth/coverage"
TRUTH_IGNORED = "/ground_truth/ignored_regions"
TRUTH_INSTANCES = "/ground_truth/instances"
TF, TF_STATIC = "/tf", "/tf_static"

_FOREVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _FOREVER,
    _FOREVER,
    QosLiveliness.AUTOMATIC,
    _FOREVER,
    False,
)


class BadBag(RuntimeError):
    """The bag cannot be read, or lacks what was asked of it."""


class RawMessage(NamedTuple):
    """One serialized message: `data` is CDR, `stamp` the time of recording in nanoseconds."""

    topic: str
    type: str
    stamp: int
    data: bytes


class BagWriter:
    """Writes one MCAP file; the file appears under its name when it is whole, a former one is replaced."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError where `path` does not end in .mcap."""
        if path.suffix != ".mcap":
            raise ValueError(f"a bag is written as one MCAP file: name it {path.with_suffix('.mcap')}")
        self._path = path
        self._topics: dict[str, Connection] = {}

    def __enter__(self) -> "BagWriter":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(dir=self._path.parent, prefix=".bag-")
        # Version 8 writes service qualities as numbers, which every distribution from Humble on reads.
        self._writer = Writer(Path(self._folder.name) / "bag", version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._writer.close()
        if error is None:
            os.replace(next(self._writer.path.glob("*.mcap")), self._path)
        self._folder.cleanup()

    def write(self, topic: str, message: Any, stamp: int) -> None:
        """Append a message made by `bag_types.new_message`; `stamp` in nanoseconds."""
        name = message.__msgtype__
        self.write_raw(RawMessage(topic, name, stamp, bytes(bag_types().serialize_cdr(message, name))))

    def write_raw(self, message: RawMessage) -> None:
        """Append a serialized message of a type that `bag_types` knows."""
        if message.topic not in self._topics:
            self._topics[message.topic] = self._writer.add_connection(
                message.topic,
                message.type,
                typestore=bag_types(),
                offered_qos_profiles=[_LATCHED] if message.topic in (TF_STATIC, TRUTH_COVERAGE) else [],
            )
        self._writer.write(self._topics[message.topic], message.stamp, message.data)


class BagReader:
    """Reads a ROS 2 bag (MCAP file, or folder of either storage) or a ROS 1 bag: each message once, in order."""

    def __init__(self, path: Path) -> None:
        """Raises BadBag where there is no readable bag."""
        self._path = path
        try:
            self._reader = AnyReader([path], default_typestore=bag_types())
        except (AnyReaderError, FileNotFoundError) as error:
            raise BadBag(f"{path} is not a bag: {error}") from None

    def __enter__(self) -> "BagReader":
        try:
            self._reader.open()
        except AnyReaderError as error:
            raise BadBag(f"{self._path} cannot be opened: {error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def require_ros2(self) -> None:
        """Raises BadBag for a ROS 1 bag, whose messages a ROS 2 node cannot take as they are."""
        if not self._reader.is2:
            into = self._path.with_suffix("")
            raise BadBag(f"{self._path} is a ROS 1 bag; convert it: rosbags-convert --src {self._path} --dst {into}")

    @property
    def types(self) -> dict[str, str]:
        """Type of each topic."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    def count(self, topic: str) -> int:
        """Number of messages on a topic."""
        return self._reader.topics[topic].msgcount if topic in self._reader.topics else 0

    def raw(self, topics: Collection[str]) -> Iterator[RawMessage]:
        """Serialized messages of the topics, all of them in order of time."""
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:
            return
        for connection, stamp, data in self._reader.messages(connections):
            yield RawMessage(connection.topic, connection.msgtype, stamp, data)

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """Topic, stamp in nanoseconds and message, all of them in order of time."""
        for raw in self.raw(topics):
            yield raw.topic, raw.stamp, self._reader.deserialize(raw.data, raw.type)

    def cloud_topic(self, wanted: str | None = None) -> str:
        """Topic of the clouds: the one wanted, else /points, else the only cloud in the bag. Raises BadBag."""
        return self._topic("cloud", "sensor_msgs/msg/PointCloud2", POINTS, wanted)

    def image_topic(self, wanted: str | None = None) -> str:
        """Topic of the images: the one wanted, else /camera/image, else the only image in the bag. Raises BadBag."""
        return self._topic("image", "sensor_msgs/msg/Image", IMAGE, wanted)

    def _topic(self, what: str, kind: str, usual: str, wanted: str | None) -> str:
        found = sorted(topic for topic, one in self.types.items() if one == kind)
        choice = wanted or (usual if usual in found or len(found) != 1 else found[0])
        if choice not in found:
            raise BadBag(f"{self._path} has no {what} on {choice}; its {what}s are: {', '.join(found) or 'none'}")
        return choice
