# SPDX-License-Identifier: Apache-2.0
"""What is known of each target between scans, and how RViz shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from perception_models.detection import Detections
from perception_models.tracking import TrackState
from perception_nodes.markers import COLOURS, encode_markers
from perception_nodes.path_log import PathLog

GREY = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.8)  # of what is lost
PATH_WIDTH = 0.08  # m


@dataclass
class Followed:
    """A target: its class, its last state, for how long it is lost (s), and its way in the fixed frame."""

    name: str
    state: TrackState
    path: PathLog
    lost_for: float = 0.0

    @property
    def is_valid(self) -> bool:
        """Whether it is where its box says."""
        return not self.state.lost and bool(np.isfinite(self.state.box).all())

    def update(self, state: TrackState, seconds: float) -> None:
        """Its state after so many seconds."""
        self.state = state
        self.lost_for = 0.0 if self.is_valid else self.lost_for + seconds

    def __str__(self) -> str:
        if self.is_valid:
            return f"followed, {self.state.score:.2f}"
        return f"lost for {self.lost_for:.1f} s: {self.state.reason or 'the box is not finite'}"


def as_detections(followed: Mapping[str, Followed], names: list[str]) -> Detections:
    """Boxes of targets, each of a class of its own, named so."""
    states = [one.state for one in followed.values()]
    boxes = np.array([state.box for state in states], np.float32).reshape(-1, 7)
    scores = np.array([state.score for state in states], np.float32)
    return Detections(boxes, scores, np.arange(len(names)), tuple(names))


def target_markers(followed: Mapping[str, Followed], header: Header, fixed_frame: str) -> MarkerArray:
    """Box and text of each target, those that are lost in grey; and the ways, where a fixed frame is given."""
    shown = {identity: one for identity, one in followed.items() if np.isfinite(one.state.box).all()}
    names = [f"{identity} {one.name}{'' if one.is_valid else ' lost'}" for identity, one in shown.items()]
    array = encode_markers(as_detections(shown, names), header, with_text=True)
    for index, one in enumerate(shown.values()):
        if not one.is_valid:
            for marker in (array.markers[1 + index], array.markers[1 + len(shown) + index]):
                marker.color = GREY
    if fixed_frame:
        fixed = Header(stamp=header.stamp, frame_id=fixed_frame)
        array.markers += [_way(one.path, fixed, index) for index, one in enumerate(shown.values())]
    return array


def _way(path: PathLog, header: Header, index: int) -> Marker:
    line = Marker(header=header, ns="ways", id=index, type=Marker.LINE_STRIP, action=Marker.ADD)
    line.color, line.scale.x, line.pose.orientation.w = COLOURS[index % len(COLOURS)], PATH_WIDTH, 1.0
    line.points = path.positions
    return line
