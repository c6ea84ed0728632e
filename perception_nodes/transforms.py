# SPDX-License-Identifier: Apache-2.0
"""TF look-up at a message's stamp and TF broadcast.

Listening happens on a node and a thread of its own, so that TF never waits behind inference, nor inference behind TF.
tf2_ros serves where it is installed; elsewhere a reader of /tf and /tf_static with the same semantics does.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from typing import Any, Protocol

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from perception_models.geometry import se3
from perception_nodes.errors import InvalidMessage
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.messages import decode_transform, encode_transform
from perception_nodes.stamps import nanoseconds
from perception_nodes.transform_buffer import TransformBuffer, TransformUnavailable

DYNAMIC = QoSProfile(depth=100)
STATIC = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Source(Protocol):
    """Where transforms come from: tf2_ros or our own reader."""

    def lookup(self, target: str, source: str, stamp: Time, timeout: float) -> se3.Matrix:
        """See Transforms.lookup."""
        ...


class Transforms:
    """The transforms that a node can see; `owner` gives the context, the clock and the remapped topic names.

    Call `close` when done; it may be called again.
    """

    def __init__(self, owner: Node, prefer_tf2: bool = True) -> None:
        names = {topic: owner.resolve_topic_name(topic) for topic in ("/tf", "/tf_static")}
        remaps = [text for topic, name in names.items() for text in ("-r", f"{topic}:={name}")]
        self._node = Node(
            f"{owner.get_name()}_tf",
            namespace=owner.get_namespace(),
            context=owner.context,
            use_global_arguments=False,  # else a remapped node name would name this one too
            cli_args=["--ros-args", *remaps],
            start_parameter_services=False,
        )
        has_tf2 = prefer_tf2 and importlib.util.find_spec("tf2_ros") is not None
        self._source: Source = Tf2Reader(self._node) if has_tf2 else TopicReader(self._node)
        self._executor = BackgroundExecutor(self._node, "tf")

    def lookup(self, target: str, source: str, stamp: Time, timeout: float = 0.0) -> se3.Matrix:
        """Transform (4, 4) that moves points of `source` into `target` at `stamp`; a zero stamp is the latest time.

        Waits up to `timeout` seconds for it: a scan is often here before the transform that covers its stamp.
        Raises TransformUnavailable; an identity is never made up.
        """
        return self._source.lookup(target, source, stamp, timeout)

    def close(self) -> None:
        """Ends the thread and the node."""
        self._executor.stop()
        self._node.destroy_node()


class TopicReader:
    """Reads /tf and /tf_static into a TransformBuffer."""

    def __init__(self, node: Node, length: float = 10.0) -> None:
        self._buffer = TransformBuffer(length)
        self._changed = threading.Condition()
        self._logger = node.get_logger()
        node.create_subscription(TFMessage, "/tf", lambda message: self._store(message, False), DYNAMIC)
        node.create_subscription(TFMessage, "/tf_static", lambda message: self._store(message, True), STATIC)

    def lookup(self, target: str, source: str, stamp: Time, timeout: float) -> se3.Matrix:
        """See Transforms.lookup."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                try:
                    return self._buffer.lookup(target, source, nanoseconds(stamp))
                except TransformUnavailable:
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise

    def _store(self, message: TFMessage, is_static: bool) -> None:
        with self._changed:
            for entry in message.transforms:
                try:
                    pose, stamp = decode_transform(entry.transform), nanoseconds(entry.header.stamp)
                    self._buffer.set(pose, entry.header.frame_id, entry.child_frame_id, stamp, is_static)
                except (InvalidMessage, ValueError) as error:
                    self._logger.warning(f"a transform was ignored: {error}", throttle_duration_sec=5.0)
            self._changed.notify_all()


class Tf2Reader:
    """The same look-up by tf2_ros."""

    def __init__(self, node: Node) -> None:
        import tf2_ros
        from rclpy.duration import Duration
        from rclpy.time import Time as RosTime

        self._time, self._duration, self._error = RosTime.from_msg, Duration, tf2_ros.TransformException
        self._buffer: Any = tf2_ros.Buffer(node=node)
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def lookup(self, target: str, source: str, stamp: Time, timeout: float) -> se3.Matrix:
        """See Transforms.lookup."""
        try:
            found = self._buffer.lookup_transform(
                target, source, self._time(stamp), timeout=self._duration(seconds=timeout)
            )
        except self._error as error:
            raise TransformUnavailable(str(error)) from error
        return decode_transform(found.transform)


class Broadcaster:
    """Publishes transforms on /tf, or latched on /tf_static."""

    def __init__(self, node: Node, is_static: bool = False) -> None:
        self._node = node
        topic, qos = ("/tf_static", STATIC) if is_static else ("/tf", DYNAMIC)
        self._publisher = node.create_publisher(TFMessage, topic, qos)

    def send(self, pose: se3.Matrix, parent: str, child: str, stamp: Time) -> None:
        """Sends the pose (4, 4) of `child` in `parent`, for example odom -> base_link (REP-105)."""
        header = Header(stamp=stamp, frame_id=parent)
        transform = TransformStamped(header=header, child_frame_id=child, transform=encode_transform(pose))
        self._publisher.publish(TFMessage(transforms=[transform]))

    def close(self) -> None:
        """Ends the publisher."""
        self._node.destroy_publisher(self._publisher)
