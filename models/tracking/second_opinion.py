# SPDX-License-Identifier: Apache-2.0
"""A detector as second opinion: its boxes bring a tracker back that is lost, or on something else than its object.

A detector sees whole objects and does not drift, but comes late, and does not know which object is which. So it never
moves a target that is where a detection is; it only says where to begin again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.geometry.boxes import iou_bev, wrap_angle
from perception_models.tracking.kalman import PointFilter
from perception_models.tracking.state import TrackState

Points = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]

GATE = 9.21  # squared Mahalanobis distance that 99 % of true matches stay below (two degrees of freedom)
SIZES = 1.5  # a length or width of a detection may be so many times that of the target, or its share
AGREED = 0.5  # of the target's width, between the centres, below which the two agree
PATIENCE = 3  # opinions in a row against a tracker that is not lost, until it begins again


class Advisable(Protocol):
    """MultiTracker."""

    @property
    def engine_info(self) -> Any:
        """What really runs."""
        ...

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last call of `track`."""
        ...

    def add(self, identity: str, points: Points, box: Points) -> None:
        """Follow one more."""
        ...

    def remove(self, identity: str) -> None:
        """Follow one less."""
        ...

    def track(self, points: Points, ego_motion: se3.Matrix | None, seconds: float) -> Mapping[str, TrackState]:
        """Where all are in the next scan."""
        ...

    def close(self) -> None:
        """Free the engine."""
        ...


@dataclass
class _Belief:
    """Where a target should be, by its motion; its last state; opinions in a row that were against it."""

    motion: PointFilter
    state: TrackState
    against: int = 0


class SecondOpinion:
    """A MultiTracker that takes advice; its interface, and `advise`."""

    def __init__(self, tracker: Advisable) -> None:
        self._tracker = tracker
        self._beliefs: dict[str, _Belief] = {}

    @property
    def engine_info(self) -> Any:
        """What really runs."""
        return self._tracker.engine_info

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last call of `track`."""
        return self._tracker.timing

    @property
    def targets(self) -> tuple[str, ...]:
        """Those that are followed."""
        return tuple(self._beliefs)

    def add(self, identity: str, points: Points, box: Points) -> None:
        """See MultiTracker.add."""
        self._tracker.add(identity, points, box)
        state = TrackState(np.array(box, np.float32), 1.0, False)
        self._beliefs[identity] = _Belief(PointFilter(box[:3]), state)

    def remove(self, identity: str) -> None:
        """See MultiTracker.remove."""
        self._tracker.remove(identity)
        del self._beliefs[identity]

    def track(
        self, points: Points, ego_motion: se3.Matrix | None = None, seconds: float = 0.1
    ) -> dict[str, TrackState]:
        """See MultiTracker.track."""
        states = dict(self._tracker.track(points, ego_motion, seconds))
        for identity, belief in self._beliefs.items():
            belief.motion.predict(seconds)
            if ego_motion is not None:
                belief.motion.move(se3.inverse(ego_motion))
            belief.state = states[identity]
            if not belief.state.lost:
                belief.motion.correct(belief.state.box[:3].astype(float))
        return states

    def advise(self, points: Points, boxes: Points, late: float = 0.0) -> dict[str, TrackState]:
        """Hear what a detector found in a scan `late` seconds before the last one: boxes (K, 7), brought to the last
        scan's frame as if nothing moved. Gives back the new states of those that begin again in the last scan."""
        offered: Values = np.asarray(boxes, np.float64).reshape(-1, 7)
        begun: dict[str, TrackState] = {}
        for identity, belief in self._beliefs.items():
            found = _match(belief, offered, late)
            if found is None:
                continue
            off = float(np.linalg.norm(found[:2] - belief.state.box[:2])) > AGREED * float(belief.state.box[4])
            belief.against = belief.against + 1 if off or belief.state.lost else 0
            if belief.against and (belief.state.lost or belief.against >= PATIENCE):
                begun |= self._begin_again(identity, belief, points, found)
        return begun

    def close(self) -> None:
        """Free the engine; the tracker cannot be used afterwards."""
        self._tracker.close()

    def _begin_again(self, identity: str, belief: _Belief, points: Points, box: Values) -> dict[str, TrackState]:
        """The target in another box; where the tracker cannot begin in that one, it goes on where it was."""
        former = belief.state
        self._tracker.remove(identity)
        try:
            self._tracker.add(identity, points, box.astype(np.float32))
        except ValueError:
            self._tracker.add(identity, points, former.box)
            return {}
        belief.motion.correct(box[:3])
        belief.against = 0
        belief.state = replace(former, box=box.astype(np.float32), lost=False, reason="", score=max(former.score, 0.5))
        return {identity: belief.state}


def _match(belief: _Belief, boxes: Values, late: float) -> Values | None:
    """The box that the target should have by a detection of its size, or None; the target keeps its size.

    Of a target that is lost it is the one nearest to where its motion leads, within the gate; else the nearest of those
    that overlap its box, so that no neighbour takes its place.
    """
    here = belief.state.box.astype(float)
    boxes = boxes[(np.abs(np.log(boxes[:, 3:5] / here[3:5])) < np.log(SIZES)).all(axis=1)].copy()
    boxes[:, :3] += late * belief.motion.mean[3:]
    surprises = belief.motion.surprise(boxes[:, :3])
    able = surprises <= GATE if belief.state.lost else iou_bev(boxes, here[None])[:, 0] > 0
    if not able.any():
        return None
    found = boxes[int(np.argmin(np.where(able, surprises, np.inf)))]
    turn = float(wrap_angle(np.array(found[6] - here[6])))
    heading = here[6] + (turn if abs(turn) <= np.pi / 2 else wrap_angle(np.array(turn + np.pi)))
    return np.array([*found[:3], *here[3:6], heading])
