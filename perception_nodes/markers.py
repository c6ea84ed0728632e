# SPDX-License-Identifier: Apache-2.0
"""Detections as markers for RViz: one wire list a class, an arrow for each heading and a line of text a box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import Point, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from perception_models.geometry.boxes import corners_3d

if TYPE_CHECKING:
    from perception_models.detection import Detections

Boxes = NDArray[np.floating]

# Pairs of corners (bottom 0-3, top 4-7) that the twelve edges join.
EDGES = np.array([0, 1, 1, 2, 2, 3, 3, 0, 4, 5, 5, 6, 6, 7, 7, 4, 0, 4, 1, 5, 2, 6, 3, 7])
COLOURS = (
    ColorRGBA(r=0.10, g=0.60, b=1.00, a=1.0),
    ColorRGBA(r=1.00, g=0.45, b=0.10, a=1.0),
    ColorRGBA(r=0.20, g=0.80, b=0.30, a=1.0),
    ColorRGBA(r=0.85, g=0.25, b=0.85, a=1.0),
)
WIRE_WIDTH, TEXT_HEIGHT = 0.06, 0.8
ARROW = Vector3(x=0.08, y=0.25, z=0.3)  # shaft diameter, head diameter, head length


def encode_markers(detections: Detections, header: Header) -> MarkerArray:
    """Everything that RViz draws of one scan, in the frame of the header; what the last scan drew is deleted first."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for label in np.unique(detections.labels):
        boxes = detections.boxes[detections.labels == label]
        markers.append(_marker(header, detections.names[label], 0, Marker.LINE_LIST, label))
        markers[-1].scale.x = WIRE_WIDTH
        markers[-1].points = _points(corners_3d(boxes)[:, EDGES].reshape(-1, 3))
    for index, label in enumerate(detections.labels):
        markers += _annotations(header, index, detections, label)
    return MarkerArray(markers=markers)


def _annotations(header: Header, index: int, detections: Detections, label: int) -> list[Marker]:
    """The arrow from a box's centre through its front, and its class and score above it."""
    box, score, name = detections.boxes[index], detections.scores[index], detections.names[label]
    arrow = _marker(header, "heading", index, Marker.ARROW, label)
    arrow.scale = ARROW
    arrow.points = _points(_heading(box))
    text = _marker(header, "label", index, Marker.TEXT_VIEW_FACING, label)
    text.scale.z = TEXT_HEIGHT
    text.text = f"{name} {score:.2f}"
    text.pose.position = Point(x=float(box[0]), y=float(box[1]), z=float(box[2] + box[5] / 2 + TEXT_HEIGHT))
    return [arrow, text]


def _heading(box: Boxes) -> Boxes:
    """Start and end (2, 3) of an arrow that reaches half a metre over the front face."""
    reach = box[3] / 2 + 0.5
    return np.array([box[:3], box[:3] + reach * np.array([np.cos(box[6]), np.sin(box[6]), 0.0])])


def _marker(header: Header, namespace: str, index: int, shape: int, label: int) -> Marker:
    marker = Marker(header=header, ns=namespace, id=index, type=shape, action=Marker.ADD)
    marker.color = COLOURS[label % len(COLOURS)]
    marker.pose.orientation.w = 1.0
    return marker


def _points(points: Boxes) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
