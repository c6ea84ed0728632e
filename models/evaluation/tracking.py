# SPDX-License-Identifier: Apache-2.0
"""How well targets were followed: Success and Precision of one pass, time until loss, wrong objects, re-acquisition.

Success and Precision as benchmarks of single-object tracking define them (Wu et al., "Online Object Tracking: A
Benchmark", CVPR 2013; in 3D: Giancola et al., CVPR 2019): one pass; the first scan counts, with the box that was given;
later boxes count whatever they are, also where the tracker says that it is lost. Scans weigh the same, not tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

THRESHOLDS = 21  # of both curves, both ends included
FARTHEST = 2.0  # m, the end of the curve of Precision
ROUNDING = 1e-6  # overlaps of equal boxes fall short of 1 by less
BANDS = ((0, 9), (10, 49), (50, 199), (200, None))  # points in the true box
HIDDEN, SHOWN = 3, 10  # an occlusion has fewer points; it ends with as many
SHORTEST = 3  # scans of an occlusion
GRACE = 1.0  # s after an occlusion in which the object should be taken up again

Outcome = Literal["right", "wrong", "none"]


@dataclass(frozen=True)
class TrackResult:
    """One target in the scans that know where it was, from the one in which it was given on; F of them.

    overlap (F,): 3D intersection over union of the tracker's box with the truth, 1 in the first scan. distance (F,):
    between the centres, m, infinite where there was no box. other (F,): overlap with another object, the largest.
    lost (F,): whether the tracker said so. points (F,): in the true box. seconds (F,): since the start.
    """

    identity: str
    category: str
    seconds: Values
    overlap: Values
    distance: Values
    other: Values
    lost: Mask
    points: NDArray[np.int64]

    @property
    def followed(self) -> Mask:
        """Where it was on its object: not lost, and overlapping it (F,)."""
        return ~self.lost & (self.overlap > 0)

    @property
    def wrong(self) -> Mask:
        """Where it claimed another object: not lost, and overlapping that one more than its own (F,)."""
        return ~self.lost & (self.other > self.overlap)


def success(overlaps: Values) -> float:
    """Area under the share of overlaps (F,) that reach a threshold, over thresholds 0 to 1, in percent."""
    thresholds = np.linspace(0, 1, THRESHOLDS)
    return _area((overlaps[:, None] + ROUNDING >= thresholds).mean(axis=0))


def precision(distances: Values) -> float:
    """Area under the share of distances (F,) within a threshold, over thresholds 0 to 2 m, in percent."""
    thresholds = np.linspace(0, FARTHEST, THRESHOLDS)
    return _area((distances[:, None] <= thresholds).mean(axis=0))


def _area(shares: Values) -> float:
    """By the trapezoid rule over thresholds that are equally far apart, in percent of the whole."""
    return float(100 * (shares[1:] + shares[:-1]).mean() / 2)


def time_until_loss(result: TrackResult) -> float:
    """Seconds from the start to the first scan in which it is not followed, or to the last one."""
    gone = np.flatnonzero(~result.followed)
    return float(result.seconds[gone[0] if len(gone) else -1])


def occlusions(points: NDArray[np.int64], seconds: Values) -> list[tuple[int, int]]:
    """First scan hidden and first scan shown again of each occlusion after which the object stays in sight for GRACE.

    points, seconds (F,). In between, what is neither hidden nor shown belongs to the occlusion.
    """
    found, start = [], None
    for index, count in enumerate(points):
        if count < HIDDEN and start is None:
            start = index
        elif count >= SHOWN and start is not None:
            is_long = index - start >= SHORTEST
            if is_long and seconds[-1] - seconds[index] >= GRACE / 2:
                found.append((start, index))
            start = None
    return found


def outcome_after(result: TrackResult, shown: int) -> Outcome:
    """What the tracker is on when GRACE has passed since the object was shown again, or in the last scan before."""
    last = int(np.searchsorted(result.seconds, result.seconds[shown] + GRACE + 1e-6)) - 1
    if result.wrong[last]:
        return "wrong"
    return "right" if result.followed[last] else "none"


def summarize(results: Sequence[TrackResult]) -> dict[str, float]:
    """Figures of some targets; shares in percent, absent where nothing stands behind them.

    tracks, scans, success, precision; wrong_object: scans on another object; lost: scans called lost; lost_rightly: of
    these, scans in which it was not on its object either; until_loss_s: mean; never_lost: targets followed to their
    end; occlusions, and reacquired and occluded_wrong: their outcomes.
    """
    if not results:
        return {}
    joined = {name: np.concatenate([getattr(one, name) for one in results]) for name in ("overlap", "distance")}
    wrong, lost, followed = (np.concatenate([getattr(r, n) for r in results]) for n in ("wrong", "lost", "followed"))
    whole = [bool(one.followed.all()) for one in results]
    figures = {
        "tracks": float(len(results)),
        "scans": float(len(lost)),
        "success": success(joined["overlap"]),
        "precision": precision(joined["distance"]),
        "wrong_object": 100 * float(wrong.mean()),
        "lost": 100 * float(lost.mean()),
        "followed": 100 * float(followed.mean()),
        "until_loss_s": float(np.mean([time_until_loss(one) for one in results])),
        "never_lost": 100 * float(np.mean(whole)),
    }
    return figures | _outcomes([outcome_after(one, end) for one in results for _, end in _occlusions_of(one)])


def _occlusions_of(result: TrackResult) -> list[tuple[int, int]]:
    return occlusions(result.points, result.seconds)


def _outcomes(outcomes: Sequence[Outcome]) -> dict[str, float]:
    if not outcomes:
        return {"occlusions": 0.0}
    share = {kind: 100 * outcomes.count(kind) / len(outcomes) for kind in ("right", "wrong")}
    return {
        "occlusions": float(len(outcomes)),
        "reacquired": share["right"],
        "occluded_wrong": share["wrong"],
    }


def by_category(results: Iterable[TrackResult]) -> Mapping[str, list[TrackResult]]:
    """Results by category, in alphabetical order."""
    results = list(results)
    names = sorted({one.category for one in results})
    return {name: [one for one in results if one.category == name] for name in names}


def by_points(results: Sequence[TrackResult]) -> dict[str, dict[str, float]]:
    """Scans, success and precision of the scans whose true box holds so many points, the first scans left out."""
    joined = {n: np.concatenate([getattr(r, n)[1:] for r in results]) for n in ("overlap", "distance", "points")}
    bands = {}
    for low, high in BANDS:
        chosen = (joined["points"] >= low) & (joined["points"] <= (high if high is not None else np.inf))
        if chosen.any():
            bands[f"{low}-{high}" if high is not None else f"{low}+"] = {
                "scans": float(chosen.sum()),
                "success": success(joined["overlap"][chosen]),
                "precision": precision(joined["distance"][chosen]),
            }
    return bands
