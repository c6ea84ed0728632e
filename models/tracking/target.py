# SPDX-License-Identifier: Apache-2.0
"""One target between scans: what is remembered of it, where to look for it, when it is lost and found again."""

from __future__ import annotations

import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_models.tracking.motion_model import MotionModel
from perception_models.tracking.preprocess import View, remember
from perception_models.tracking.regions import Columns, Floats, Values, half_extent, moved_box, offset_between
from perception_models.tracking.settings import TrackingSettings
from perception_models.tracking.state import TrackState

LOST, FOUND, LEARN = 0.7, 0.85, 0.9  # scores below which it is lost, above which found again, and remembered
NEAR, STRAY = 0.5, 0.25  # a lost target is found within so many widths, and that share of the way it went unseen
WIDELY = 1.5  # s unseen, after which a lost target is looked for around the expected place too
STANDS = -1.5  # logit of the motion state
FEWEST = 2  # points of a region in which anything can be seen
SPACING = 1.0  # of candidates about the place where a lost target is expected, of its own length
LONGEST = 0.4  # s between two scans that the network was trained to compare, about


class Target:
    """An object that is followed."""

    def __init__(self, columns: Columns, box: Floats, settings: TrackingSettings, seed: int = 0) -> None:
        self.settings = settings
        self.motion = MotionModel(box)
        self.lost = False
        self._is_across = False  # whether it was looked for beside where it is expected, or before and behind
        self._is_world = False  # whether the sensor's own motion is known
        self._rng = np.random.default_rng(seed)
        self._last = np.asarray(box, float)  # where it was seen last, in the frame of the last scan
        self._previous = self._before(columns, box)
        self._memory = remember(np.zeros((0, 3), np.float32), self._previous, box[3:6], settings, self._rng)

    def predict(self, seconds: float, ego_motion: se3.Matrix | None) -> None:
        """Go on to the next scan."""
        self.motion.predict(seconds, ego_motion)
        self._is_world = ego_motion is not None
        if ego_motion is not None:
            self._last = transform_boxes(self._last[None], se3.inverse(ego_motion))[0]

    def views(self, columns: Columns, count: int) -> list[View]:
        """Where to look: at the expected place, and where it is lost at up to `count` - 1 more around it: before and
        behind in one scan, to the sides in the next."""
        box = self.motion.expected()
        places = [np.zeros(4)]
        if self.lost and self.motion.unseen > WIDELY:
            step = SPACING * max(1.0, self.motion.uncertainty / float(box[3]))
            along, across = ([step, 0], [-step, 0]), ([0, step * 1.5], [0, -step * 1.5])
            self._is_across = not self._is_across
            places += [np.array([x, y, 0, 0]) for x, y in (across if self._is_across else along)]
        half, reach = self._region(box[3:6])
        far = max(float(np.hypot(*(place[:2] * box[3:5]))) for place in places[:count])
        near = columns.around(box, far + float(np.hypot(half[0], half[1])), float(half[2]))
        return [
            self._view(near.crop(moved_box(box, place), half), moved_box(box, place), reach) for place in places[:count]
        ]

    def _region(self, size: Floats) -> tuple[Floats, float]:
        """Half sides (3,) in metres of what is looked at, and how far the object may be from its middle."""
        settings = self.settings
        reach = float(min(self.motion.uncertainty, 0.8 * np.sqrt(size[0] * size[1]))) if self.lost else 0.0
        return half_extent(size, settings.margin, settings.margin_z, reach), reach

    def _view(self, current: Floats, box: Floats, reach: float) -> View:
        known = self.motion.is_moving_known
        motion = offset_between(self._last, box) if known else np.zeros(4)
        seconds = min(self.motion.unseen, LONGEST)
        return View(box[3:6], current, self._previous, self._memory, box, motion, seconds, reach, known, self._rng)

    def settle(self, views: list[View], outputs: dict[str, Values], columns: Columns) -> TrackState:
        """Judge what the network said of the views (rows of the outputs) and take over the best."""
        scores = [
            float(score) if len(view.current) >= FEWEST else 0.0
            for view, score in zip(views, outputs["score"], strict=True)
        ]
        boxes = [moved_box(view.expected, offset) for view, offset in zip(views, outputs["offset"], strict=True)]
        if self.lost:
            scores = [score if self._is_near(box) else 0.0 for score, box in zip(scores, boxes, strict=True)]
        best = int(np.argmax(scores))
        score = scores[best]
        if score < (FOUND if self.lost else LOST):
            return self.lose(
                score, "nothing is seen where it should be" if score < 0.05 else "what is seen may be another"
            )
        size = views[best].size
        error = np.exp(outputs["spread"][best]) * [*size, 1.0]
        self.motion.correct(boxes[best], error)
        if self._is_world:
            if outputs["state"][best] < STANDS:
                self.motion.stand()
            self.motion.head_along()
        self.lost = False
        box = self.motion.expected()
        self._last = self.motion.box.copy()
        self._previous = self._before(columns, box)
        if score > LEARN:
            self._memory = remember(self._memory, self._previous, size, self.settings, self._rng)
        return TrackState(box, score, False)

    def _is_near(self, box: Floats) -> bool:
        """Whether the target can have come to a box: what looks like it stands beside it more often than not."""
        unseen, speed = self.motion.unseen, float(np.hypot(*self.motion.velocity[:2]))
        reach = NEAR * float(box[4]) + STRAY * speed * unseen + max(unseen - WIDELY, 0.0)
        return bool(np.hypot(*(box[:2] - self.motion.box[:2])) < reach)

    def lose(self, score: float, reason: str) -> TrackState:
        """The target is not seen: its motion goes on."""
        self.lost = True
        return TrackState(self.motion.expected(), score, True, reason)

    def _before(self, columns: Columns, box: Floats) -> Floats:
        """Points around the box, in its frame."""
        settings = self.settings
        return columns.crop(box, half_extent(box[3:6], settings.previous_margin, settings.margin_z))


def inside(columns: Columns, box: Floats) -> int:
    """Number of points in a box (7,)."""
    return len(columns.crop(box, box[3:6] / 2))
