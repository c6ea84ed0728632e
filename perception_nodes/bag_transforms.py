# SPDX-License-Identifier: Apache-2.0
"""The transforms that a bag holds."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from perception_models.geometry.se3 import Matrix
from perception_nodes import bags
from perception_nodes.bag_messages import decode_odometry, decode_transforms, stamp_of
from perception_nodes.bags import BagReader
from perception_nodes.transform_buffer import TransformBuffer, TransformUnavailable

FOREVER = 1e9  # s
WORLDS = ("map", "odom")


class Poses:
    """Where frames were: by /ground_truth/odometry, or where there is none by /tf, in `map`, else in `odom`."""

    def __init__(self, reader: BagReader) -> None:
        """Read all that an open bag says."""
        self.is_truth = bool(reader.count(bags.TRUTH_ODOMETRY))
        self._worlds = WORLDS
        if not self.is_truth:
            self._buffer = read_transforms(reader, [bags.TF, bags.TF_STATIC])
            return
        self._buffer = read_transforms(reader, [bags.TF_STATIC])
        for _, _, message in reader.messages([bags.TRUTH_ODOMETRY]):
            frame = message.header.frame_id
            self._worlds = (frame, *(world for world in self._worlds if world != frame))
            self._buffer.set(decode_odometry(message), frame, message.child_frame_id, stamp_of(message))

    def of(self, frame: str, stamp: int) -> Matrix | None:
        """Pose (4, 4), frame -> world, at a stamp in nanoseconds; None where the bag does not say."""
        for world in self._worlds:
            with suppress(TransformUnavailable):
                return self._buffer.lookup(world, frame, stamp)
        return None


def read_transforms(reader: BagReader, topics: Collection[str]) -> TransformBuffer:
    """All that an open bag says on these topics."""
    buffer = TransformBuffer(length=FOREVER)
    for topic, _, message in reader.messages(topics):
        for entry, (parent, child, pose) in zip(message.transforms, decode_transforms(message), strict=True):
            buffer.set(pose, parent, child, stamp_of(entry), topic == bags.TF_STATIC)
    return buffer
