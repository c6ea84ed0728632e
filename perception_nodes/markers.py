# SPDX-License-Identifier: Apache-2.0
"""Detections as markers for RViz: one list of lines a class, with edges and headings, and text where it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from perception_models.geometry.boxes import corners_3d

if TYPE_CHECKING:
    from perception_models.detection import Detections

Boxes = NDArray[np.floating]

# Pairs of knots that lines join: the twelve edges between corners (bottom 0-3, top 4-7), and centre to front.
LINES = (0, 1, 1, 2, 2, 3, 3, 0, 4, 5, 5, 6, 6, 7, 7, 4, 0, 4, 1, 5, 2, 6, 3, 7, 8, 9)
COLOURS = (
    ColorRGBA(r=0.10, g=0.60, b=1.00, a=1.0),
    ColorRGBA(r=1.00, g=0.45, b=0.10, a=1.0),
    ColorRGBA(r=0.20, g=0.80, b=0.30, a=1.0),
    ColorRGBA(r=0.85, g=0.25, b=0.85, a=1.0),
)
LINE_WIDTH, TEXT_HEIGHT = 0.06, 0.8
OVERHANG = 0.5  # m that the line of the heading reaches over the front face


def encode_markers(detections: Detections, header: Header, with_text: bool = False) -> MarkerArray:
    """Everything that RViz draws of one scan, in the frame of the header; what the last scan drew is deleted first.

    Text, the class and score above each box, costs a message a box; all lines of a class are one message.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for label in np.unique(detections.labels):
        lines = _marker(header, detections.names[label], 0, Marker.LINE_LIST, label)
        lines.scale.x = LINE_WIDTH
        lines.points = _lines(detections.boxes[detections.labels == label])
        markers.append(lines)
    if with_text:
        markers += [_text(header, index, detections) for index in range(len(detections.boxes))]
    return MarkerArray(markers=markers)


def _lines(boxes: Boxes) -> list[Point]:
    """Ends of all lines of some boxes (K, 7); a corner that three edges share is one object, which is what is cheap."""
    ahead = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), np.zeros(len(boxes))], axis=1)
    fronts = boxes[:, :3] + (boxes[:, 3:4] / 2 + OVERHANG) * ahead
    knots = np.concatenate([corners_3d(boxes), boxes[:, None, :3], fronts[:, None]], axis=1)
    ends = ([Point(x=x, y=y, z=z) for x, y, z in box] for box in knots.tolist())
    return [box[knot] for box in ends for knot in LINES]


def _text(header: Header, index: int, detections: Detections) -> Marker:
    """Class and score above a box."""
    x, y, z, _, _, height, _ = detections.boxes[index].tolist()
    label = detections.labels[index]
    text = _marker(header, "text", index, Marker.TEXT_VIEW_FACING, label)
    text.scale.z = TEXT_HEIGHT
    text.text = f"{detections.names[label]} {detections.scores[index]:.2f}"
    text.pose.position = Point(x=x, y=y, z=z + height / 2 + TEXT_HEIGHT)
    return text


def _marker(header: Header, namespace: str, index: int, shape: int, label: int) -> Marker:
    marker = Marker(header=header, ns=namespace, id=index, type=shape, action=Marker.ADD)
    marker.color = COLOURS[label % len(COLOURS)]
    marker.pose.orientation.w = 1.0
    return marker
