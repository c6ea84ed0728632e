# SPDX-License-Identifier: Apache-2.0
"""The tree of frames over time with the look-up semantics of tf2; no ROS in here, stamps are integer nanoseconds.

tf2: Foote, "tf: The transform library", TePRA 2013.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

import numpy as np

from perception_models.geometry import se3
from perception_nodes.errors import NoResult

LATEST = 0
STATIC = -1


class TransformUnavailable(NoResult):
    """The asked transform is not known. The text says which frame or time is missing."""


@dataclass
class Link:
    """The pose of a frame in its parent over time: stamps ascending, one pose a stamp; a static link has one."""

    parent: str
    is_static: bool
    stamps: list[int] = field(default_factory=list)
    poses: dict[int, se3.Matrix] = field(default_factory=dict)

    def add(self, stamp: int, pose: se3.Matrix, length: int) -> None:
        """Stores a pose and forgets what is older than `length` nanoseconds before the newest."""
        if stamp not in self.poses:
            insort(self.stamps, stamp)
        self.poses[stamp] = pose
        oldest = bisect_left(self.stamps, self.stamps[-1] - length)
        for forgotten in self.stamps[:oldest]:
            del self.poses[forgotten]
        del self.stamps[:oldest]

    def pose(self, stamp: int) -> se3.Matrix:
        """Child -> parent at a stamp, interpolated between its neighbours; never extrapolated."""
        if self.is_static:
            return self.poses[STATIC]
        after = bisect_left(self.stamps, stamp)
        if after < len(self.stamps) and self.stamps[after] == stamp:
            return self.poses[stamp]
        self._refuse_extrapolation(stamp)
        start, end = self.stamps[after - 1], self.stamps[after]
        return se3.interpolate(self.poses[start], self.poses[end], (stamp - start) / (end - start))

    def _refuse_extrapolation(self, stamp: int) -> None:
        first, last = self.stamps[0], self.stamps[-1]
        if first < stamp < last:
            return
        asked = f"Requested time {_seconds(stamp)} but the"
        if first == last:
            raise TransformUnavailable(
                f"Lookup would require extrapolation at time {_seconds(stamp)}, "
                f"but only time {_seconds(first)} is in the buffer"
            )
        if stamp > last:
            raise TransformUnavailable(
                f"Lookup would require extrapolation into the future.  {asked} latest data is at time {_seconds(last)}"
            )
        raise TransformUnavailable(
            f"Lookup would require extrapolation into the past.  {asked} earliest data is at time {_seconds(first)}"
        )


class TransformBuffer:
    """Every frame's link to its parent over the last `length` seconds (tf2's default is ten)."""

    def __init__(self, length: float = 10.0) -> None:
        self._length = int(length * 1e9)
        self._links: dict[str, Link] = {}

    def set(self, pose: se3.Matrix, parent: str, child: str, stamp: int, is_static: bool = False) -> None:
        """Stores the pose (4, 4) of `child` in `parent`. A new parent, or static after moving, starts the link anew.

        A stamp further back than the buffer is long means that the source started again: what moved is forgotten.
        Raises ValueError where the pose is not finite or a frame is its own parent.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not (parent and child) or parent == child:
            raise ValueError(f"the transform from '{child}' to '{parent}' does not join two frames")
        if not np.isfinite(pose).all():
            raise ValueError(f"the transform from '{child}' to '{parent}' is not finite")
        link = self._links.get(child)
        if link is None or (link.parent, link.is_static) != (parent, is_static):
            link = self._links[child] = Link(parent, is_static)
        elif not is_static and stamp < link.stamps[-1] - self._length:
            self._forget_moving()
            link = self._links[child] = Link(parent, is_static)
        link.add(STATIC if is_static else stamp, pose, self._length)

    def lookup(self, target: str, source: str, stamp: int) -> se3.Matrix:
        """Transform (4, 4) that moves points of `source` into `target` at a stamp; 0 is the latest common time.

        Raises TransformUnavailable where a frame is unknown, the two are not joined or the time is not covered.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        for argument, frame in (("target_frame", target), ("source_frame", source)):
            if not self._knows(frame):
                raise TransformUnavailable(
                    f'"{frame}" passed to lookupTransform argument {argument} does not exist; is it published on /tf?'
                )
        up, down = self._chains(target, source)
        if stamp == LATEST:
            stamp = self._latest_common(up + down)
        try:
            return se3.inverse(self._compose(down, stamp)) @ self._compose(up, stamp)
        except TransformUnavailable as error:
            raise TransformUnavailable(
                f"{error}, when looking up transform from frame [{source}] to frame [{target}]"
            ) from None

    def _knows(self, frame: str) -> bool:
        return frame in self._links or any(link.parent == frame for link in self._links.values())

    def _chains(self, target: str, source: str) -> tuple[list[Link], list[Link]]:
        """Links from the source and from the target up to their nearest common ancestor."""
        ancestors, ancestors_of_target = self._ancestors(source), self._ancestors(target)
        meeting = next((frame for frame in ancestors if frame in ancestors_of_target), None)
        if meeting is None:
            raise TransformUnavailable(
                f"Could not find a connection between '{target}' and '{source}' because they are not part of the same "
                "tree. Tf has two or more unconnected trees."
            )
        chains = (ancestors[: ancestors.index(meeting)], ancestors_of_target[: ancestors_of_target.index(meeting)])
        return [self._links[frame] for frame in chains[0]], [self._links[frame] for frame in chains[1]]

    def _ancestors(self, frame: str) -> list[str]:
        """The frame and its ancestors up to the root; a loop is cut where it closes."""
        chain = [frame]
        while (link := self._links.get(chain[-1])) is not None and link.parent not in chain:
            chain.append(link.parent)
        return chain

    def _forget_moving(self) -> None:
        self._links = {child: link for child, link in self._links.items() if link.is_static}

    @staticmethod
    def _latest_common(links: list[Link]) -> int:
        return min((link.stamps[-1] for link in links if not link.is_static), default=LATEST)

    @staticmethod
    def _compose(chain: list[Link], stamp: int) -> se3.Matrix:
        """Pose of the first frame of a chain in the parent of its last."""
        pose = np.eye(4)
        for link in chain:
            pose = link.pose(stamp) @ pose
        return pose


def _seconds(stamp: int) -> str:
    return f"{stamp / 1e9:.6f}"
