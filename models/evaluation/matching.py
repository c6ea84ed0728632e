# SPDX-License-Identifier: Apache-2.0
"""Which detection found which true object, and which of both are judged."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.boxes import Floats, iou_3d, iou_bev

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]

OVERLAPS = {"bev": iou_bev, "3d": iou_3d}


@dataclass(frozen=True)
class FrameResult:
    """What was found in one scan, and what is true. Boxes are (., 7) x y z l w h yaw in the sensor's frame.

    `covered` (K,) says which detections lie where the truth speaks, `truth_covered` (M,) which true objects do, and
    `truth_points` (M,) how many LiDAR points each of them holds. None: all are covered; all hold points enough.
    """

    boxes: Floats
    scores: Floats
    labels: Indices
    truth_boxes: Floats
    truth_labels: Indices
    truth_points: Indices | None = None
    covered: Mask | None = None
    truth_covered: Mask | None = None


@dataclass(frozen=True)
class Judgement:
    """What is judged of one scan, for one class and range.

    `detections` (k,) are the indices of the detections judged, by falling score, with their `scores` and whether they
    are `hits` (else false). `objects` (m,) are the indices of the true objects that count, `found_by` the score of the
    detection that found each, -inf where none did.
    """

    detections: Indices
    scores: Floats
    hits: Mask
    objects: Indices
    found_by: Floats


class ClassMatches:
    """Detections of one class matched with its true objects in one scan.

    From the highest score down, each detection takes, of the true objects that it overlaps by at least `threshold` and
    that are not taken, the one that it overlaps most; objects that count go before those that do not. Range
    plays no part: a detection keeps its partner in every distance band.
    """

    def __init__(self, frame: FrameResult, label: int, overlap: Floats, threshold: float, min_points: int) -> None:
        """`overlap` (K, M) between all detections and all true objects of the scan."""
        self._rows = np.flatnonzero(frame.labels == label)
        self._rows = self._rows[np.argsort(-frame.scores[self._rows], kind="stable")]
        self._columns = np.flatnonzero(frame.truth_labels == label)
        self._frame = frame
        self._counts = _counts(frame, min_points)[self._columns]
        self._partner = _take_partners(overlap[np.ix_(self._rows, self._columns)], threshold, self._counts)

    def within(self, near: float, far: float) -> Judgement:
        """What is judged between two horizontal distances from the sensor, metres, `far` excluded.

        A true object counts by its own distance. A detection of a counting object is a hit, of another object nothing.
        A detection of no object is false, if its own centre lies in the range and is covered; else nothing.
        """
        frame, matched = self._frame, self._partner >= 0
        counting = self._counts & _in_range(frame.truth_boxes[self._columns], near, far)
        hits = np.zeros(len(self._rows), bool)
        hits[matched] = counting[self._partner[matched]]
        covered = np.ones(len(frame.boxes), bool) if frame.covered is None else frame.covered
        false = ~matched & covered[self._rows] & _in_range(frame.boxes[self._rows], near, far)
        scores = frame.scores[self._rows]
        found_by = np.full(len(self._columns), -np.inf)
        found_by[self._partner[matched]] = scores[matched]
        judged = hits | false
        objects = self._columns[counting]
        return Judgement(self._rows[judged], scores[judged], hits[judged], objects, found_by[counting])


def _counts(frame: FrameResult, min_points: int) -> Mask:
    """Which true objects (M,) a detector can be asked for: covered by the truth, and with points enough."""
    counts = np.ones(len(frame.truth_boxes), bool)
    if frame.truth_points is not None:
        counts &= frame.truth_points >= min_points
    if frame.truth_covered is not None:
        counts &= frame.truth_covered
    return counts


def _in_range(boxes: Floats, near: float, far: float) -> Mask:
    distance = np.hypot(boxes[:, 0], boxes[:, 1])
    mask: Mask = (distance >= near) & (distance < far)
    return mask


def _take_partners(overlap: Floats, threshold: float, counts: Mask) -> Indices:
    """Column (k,) that each row, in turn, takes of an overlap matrix (k, m); -1 for none."""
    # A column that counts is worth more than any that does not, whatever the overlap.
    worth = np.where(overlap >= threshold, overlap + counts, -1.0)
    partner = np.full(len(overlap), -1, np.int64)
    for row in np.flatnonzero((worth >= 0).any(axis=1)):
        best = int(np.argmax(worth[row]))
        if worth[row, best] >= 0:
            partner[row] = best
            worth[:, best] = -1.0
    return partner
