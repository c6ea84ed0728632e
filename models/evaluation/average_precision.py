# SPDX-License-Identifier: Apache-2.0
"""Precision over recall, and the average precision at 40 recall positions (Simonelli et al., ICCV 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.evaluation.matching import Judgement

RECALLS = np.arange(1, 41) / 40
# 38 of 40 objects are a recall of 0.95, whatever the rounding of the quotient.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Curve:
    """One point for each distinct score, by falling score: recall, precision, false detections; all (P,).

    `objects` is the number of true objects that count. Without a detection the arrays are empty.
    """

    scores: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    false: NDArray[np.int64]
    objects: int

    def average_precision(self) -> float:
        """Mean over the recalls 1/40 .. 40/40 of the best precision at that recall or a higher one, 0 to 1.

        NaN where there is no object to find.
        """
        if not self.objects:
            return float("nan")
        best = np.append(np.maximum.accumulate(self.precision[::-1])[::-1], 0.0)
        return float(best[np.searchsorted(self.recall, RECALLS - _ROUNDING)].mean())

    def at_recall(self, recall: float) -> int:
        """Index of the highest score that reaches a recall, or the highest recall there is. Needs a point at least."""
        reachable = min(recall, self.recall[-1]) - _ROUNDING
        return int(np.searchsorted(self.recall, reachable))

    def at_best_f1(self) -> int:
        """Index of the highest score with the best harmonic mean of precision and recall. Needs a point at least."""
        total = self.precision + self.recall
        return int(np.argmax(self.precision * self.recall / np.maximum(total, np.finfo(float).tiny)))


def precision_recall(judgements: Sequence[Judgement]) -> Curve:
    """The curve over many scans. Detections of equal score are taken together, so their order plays no part."""
    objects = sum(len(judgement.objects) for judgement in judgements)
    scores = np.concatenate([np.zeros(0), *(judgement.scores for judgement in judgements)])
    hits = np.concatenate([np.zeros(0, bool), *(judgement.hits for judgement in judgements)])
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(hits[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    taken = last + 1
    return Curve(scores[last], found[last] / max(objects, 1), found[last] / taken, taken - found[last], objects)
