# SPDX-License-Identifier: Apache-2.0
"""Occlusions made on purpose: an object's points are taken away for a while, and come back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perception_models.evaluation.one_pass import AnyTracker, LabelledScan, Target, find_targets, follow, judge
from perception_models.evaluation.tracking import GRACE, SHOWN, outcome_after
from perception_models.geometry.boxes import points_in_boxes

BEFORE, HIDDEN = 1.0, 1.0  # s that the object is seen first, and that it is hidden then
MARGIN = 0.3  # m around its box where points are taken away too


@dataclass(frozen=True)
class Trial:
    """Scans of one target from its start on; hidden from scan `hide` on, shown again from scan `show` on."""

    target: Target
    scans: Sequence[LabelledScan]
    hide: int
    show: int


def make_trials(
    scans: Sequence[LabelledScan], targets: Sequence[Target], counts: Mapping[str, Mapping[int, int]]
) -> list[Trial]:
    """One trial after the other of each target, wherever it is seen well all the time, as if nothing hid it."""
    trials, length = [], BEFORE + HIDDEN + GRACE
    for target in targets:
        start = target.start
        while start < target.stop:
            end = start
            while end < target.stop and scans[end].seconds - scans[start].seconds < length - 1e-3:
                end += 1
            window = range(start, end + 1)
            is_long = scans[end].seconds - scans[start].seconds >= length - 0.06
            if is_long and all(counts[target.identity].get(index, 0) >= SHOWN for index in window):
                trials.append(_trial(target, [scans[index] for index in window]))
                start = end
            start += 1
    return trials


def _trial(target: Target, window: Sequence[LabelledScan]) -> Trial:
    since = np.array([scan.seconds - window[0].seconds for scan in window])
    hide, show = (int(np.searchsorted(since, moment - 0.05)) for moment in (BEFORE, BEFORE + HIDDEN))
    hidden = [*window[:hide], *(without(scan, target.identity) for scan in window[hide:show]), *window[show:]]
    return Trial(replace(target, start=0, stop=len(window) - 1), hidden, hide, show)


def without(scan: LabelledScan, identity: str) -> LabelledScan:
    """The scan without the points in an object's box, and close around it."""
    box = np.array(scan.boxes[identity], float)
    box[3:6] += 2 * MARGIN
    return replace(scan, points=scan.points[~points_in_boxes(scan.points, box[None])[:, 0]])


def run_trials(tracker: AnyTracker, trials: Iterable[Trial]) -> dict[str, float]:
    """Shares in percent of the trials: right, wrong and none a second after the object is shown again; `wrong_ever`: on
    another object in any scan since it was hidden; `told`: called lost while hidden."""
    outcomes, wrong_ever, told = [], [], []
    for trial in trials:
        answers = follow(tracker, trial.scans, [trial.target])
        _, counts = find_targets(trial.scans)
        [result] = judge(trial.scans, [trial.target], answers, counts)
        outcomes.append(outcome_after(result, trial.show))
        wrong_ever.append(bool(result.wrong[trial.hide :].any()))
        told.append(bool(result.lost[trial.hide : trial.show].any()))
    if not outcomes:
        return {"trials": 0.0}
    shares = {kind: 100 * outcomes.count(kind) / len(outcomes) for kind in ("right", "wrong", "none")}
    ever = {"wrong_ever": 100 * float(np.mean(wrong_ever)), "told": 100 * float(np.mean(told))}
    return {"trials": float(len(outcomes)), **shares, **ever}
