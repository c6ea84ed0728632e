# SPDX-License-Identifier: Apache-2.0
"""The objects of a map as messages: a labelled cloud, detections with ids, and what RViz shows of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import MarkerArray

from perception_models.detection import Detections
from perception_models.geometry.cameras import Floats
from perception_models.segmentation.online_objects import Objects
from perception_nodes.markers import encode_markers
from perception_nodes.messages import encode_points
from perception_nodes.point_clouds import packed_colors

NAME = "object"  # class of all detections: what they are is not known
GOLDEN = 0.6180339887  # turns of hue from one id to the next, by which no two near ids look alike
HUES = np.array([0.0, 2 / 3, 1 / 3])  # turns, at which red, green and blue are full


def colours_of(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """A colour (N, 3) for each id (N,), always the same; grey for 0, which is none."""
    turn = (np.asarray(ids, np.float64)[:, None] * GOLDEN + HUES) % 1
    colours = np.rint(255 * (0.25 + 0.75 * np.clip(np.abs(6 * turn - 3) - 1, 0, 1))).astype(np.uint8)
    return np.where(np.asarray(ids)[:, None] > 0, colours, np.uint8(128))


def labelled_cloud(
    points: Floats, colors: NDArray[np.uint8], labels: NDArray[np.integer], header: Header
) -> PointCloud2:
    """Cloud x y z rgb label of points (N, 3), colours (N, 3) and ids (N,)."""
    return encode_points(points, header, {"rgb": packed_colors(colors), "label": labels.astype(np.int32)})


def told(objects: Objects, largest: float) -> Objects:
    """The objects of which no side is longer than `largest` metres: floor and walls are not told of."""
    fits = objects.boxes[:, 3:6].max(axis=1, initial=0) <= largest
    return Objects(objects.ids[fits], objects.boxes[fits], objects.scores[fits], objects.sizes[fits])


def as_detections(objects: Objects) -> Detections:
    """Boxes of the objects, all of one class."""
    return Detections(objects.boxes, objects.scores, np.zeros(len(objects.ids), np.int64), (NAME,))


def object_markers(objects: Objects, header: Header) -> MarkerArray:
    """Box and id of each object, in the colour of its id."""
    names = tuple(f"{NAME} {identity}" for identity in objects.ids.tolist())
    each = Detections(objects.boxes, objects.scores, np.arange(len(names)), names)
    array = encode_markers(each, header, with_text=True)
    for row, (red, green, blue) in enumerate((colours_of(objects.ids) / 255.0).tolist()):
        colour = ColorRGBA(r=red, g=green, b=blue, a=1.0)
        array.markers[1 + row].color = array.markers[1 + len(names) + row].color = colour
    return array
