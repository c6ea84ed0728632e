# SPDX-License-Identifier: Apache-2.0
"""Which objects are to be followed: asked for by a box, by the id of a detection, or by a click near one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray

from perception_nodes.errors import InvalidMessage
from perception_nodes.messages import decode_box
from perception_nodes.stamps import nanoseconds

UNKNOWN = "unknown"  # class of what was given without one
IGNORED = "ignore"  # class of what is no object; see bags.py


@dataclass(frozen=True)
class Start:
    """box (7,) in the frame and at the stamp of `header`, of a thing called `name`; an empty identity is to be chosen.
    `points`: with fewer in its box it is not begun, and that is no fault (0: begun in any case)."""

    identity: str
    name: str
    box: NDArray[np.float64]
    header: Header
    points: int = 0

    def seen_with(self, cloud: Header) -> Header:
        """Its header; a zero stamp is that of the cloud."""
        return (
            self.header if nanoseconds(self.header.stamp) else Header(stamp=cloud.stamp, frame_id=self.header.frame_id)
        )


def start_of(detection: Detection3D, header: Header, points: int = 0) -> Start:
    """A detection, in the frame and at the stamp of a header, as what is to be followed.

    Raises InvalidMessage where there is no frame or no valid box.
    """
    if not header.frame_id:
        raise InvalidMessage("the box has no frame_id; set header.frame_id")
    results = detection.results
    name = max((r.hypothesis for r in results), key=lambda h: h.score).class_id if results else ""
    return Start(detection.id, name or UNKNOWN, decode_box(detection.bbox), header, points)


@dataclass
class Offered:
    """The newest detections, of which one may be asked for."""

    message: Detection3DArray | None = None

    def with_id(self, identity: str) -> Start:
        """The detection that has an id. Raises InvalidMessage where there is none."""
        message = self._newest()
        found = [one for one in message.detections if one.id == identity != ""]
        if not found:
            names = ", ".join(one.id for one in message.detections if one.id) or "no ids"
            raise InvalidMessage(f"no detection has the id '{identity}'; those on ~/detections have {names}")
        return start_of(found[0], message.header)

    def nearest(self, place: NDArray[np.float64], reach: float) -> Start:
        """The detection nearest to a place (3,) in its frame, seen from above. Raises InvalidMessage for none in
        reach."""
        message = self._newest()
        starts = [start_of(one, message.header) for one in message.detections]
        distances = [distance(place, start.box) for start in starts]
        if not starts or min(distances) > reach:
            closest = f"; the nearest is {min(distances):.1f} m away" if starts else ""
            raise InvalidMessage(f"no detection is within {reach:g} m of the click{closest}; click on an object")
        return starts[int(np.argmin(distances))]

    @property
    def header(self) -> Header:
        """Frame and stamp of the detections. Raises InvalidMessage where there are none."""
        return self._newest().header

    def _newest(self) -> Detection3DArray:
        if self.message is None:
            raise InvalidMessage("nothing came on ~/detections yet; is a detection node running and remapped to it?")
        return self.message


def distance(place: NDArray[np.float64], box: NDArray[np.float64]) -> float:
    """Metres from a place (3,) to a box (7,) seen from above; 0 inside."""
    c, s = np.cos(box[6]), np.sin(box[6])
    local = np.abs(np.array([[c, s], [-s, c]]) @ (place[:2] - box[:2]))
    return float(np.hypot(*np.maximum(local - box[3:5] / 2, 0)))


def lag(start: Start, cloud: Header) -> float:
    """Seconds that a cloud is younger than a start; a start with a zero stamp is always of the newest cloud."""
    stamp = nanoseconds(start.header.stamp)
    return (nanoseconds(cloud.stamp) - stamp) * 1e-9 if stamp else 0.0


class Waiting:
    """Starts that wait for their cloud: the first one that is not older than they are."""

    def __init__(self) -> None:
        self._starts: list[Start] = []

    def add(self, start: Start) -> None:
        """One more."""
        self._starts.append(start)

    def due(self, cloud: Header, limit: float) -> list[Start]:
        """Those whose cloud is there, and those that are ahead of it by more than `limit` seconds; they leave."""
        is_due = [not -limit <= lag(start, cloud) < 0 for start in self._starts]
        due = [start for start, leaves in zip(self._starts, is_due, strict=True) if leaves]
        self._starts = [start for start, leaves in zip(self._starts, is_due, strict=True) if not leaves]
        return due
