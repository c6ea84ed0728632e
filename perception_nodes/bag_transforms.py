# SPDX-License-Identifier: Apache-2.0
"""The transforms that a bag holds."""

from collections.abc import Collection

from perception_nodes import bags
from perception_nodes.bag_messages import decode_transforms, stamp_of
from perception_nodes.bags import BagReader
from perception_nodes.transform_buffer import TransformBuffer

FOREVER = 1e9  # s


def read_transforms(reader: BagReader, topics: Collection[str]) -> TransformBuffer:
    """All that an open bag says on these topics."""
    buffer = TransformBuffer(length=FOREVER)
    for topic, _, message in reader.messages(topics):
        for entry, (parent, child, pose) in zip(message.transforms, decode_transforms(message), strict=True):
            buffer.set(pose, parent, child, stamp_of(entry), topic == bags.TF_STATIC)
    return buffer
