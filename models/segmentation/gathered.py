# SPDX-License-Identifier: Apache-2.0
"""What all key frames so far said of the super-points of the map, in sums that do not grow with their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perception_models.segmentation.evidence import Evidence

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
_SHIFT = 32  # of the first super-point in a pair's key


class Gathered:
    """Sums over views: of each pair of super-points its agreement times weight, and its weight; of each super-point its
    features and how many views gave some."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, np.int64)
        self._agreement: Floats = np.zeros(0)
        self._weight: Floats = np.zeros(0)
        self._features = np.zeros((0, 0), np.float32)
        self._views = np.zeros(0)

    @property
    def pairs(self) -> int:
        """How many pairs are known."""
        return len(self._keys)

    def grow(self, count: int) -> None:
        """Makes room for super-points 0 to count - 1."""
        more = count - len(self._views)
        if more > 0:
            self._views = np.append(self._views, np.zeros(more))
            self._features = np.pad(self._features, ((0, more), (0, 0)))

    def add(self, evidence: Evidence) -> None:
        """Takes in one view; it names super-points by their rows."""
        if not len(evidence.superpoints):
            return
        self._sum(
            np.concatenate([self._keys, _keys(evidence.pairs)]),
            np.concatenate([self._agreement, evidence.agreement * evidence.weight]),
            np.concatenate([self._weight, evidence.weight]),
        )
        if not self._features.shape[1]:
            self._features = np.zeros((len(self._views), evidence.features.shape[1]), np.float32)
        np.add.at(self._features, evidence.superpoints, evidence.features)
        np.add.at(self._views, evidence.superpoints, 1)

    def among(self, name: Integers) -> Evidence:
        """What is known of some super-points and the pairs among them, as one view: super-point i is called name[i]
        (S,), numbered without gaps, -1 where it is left out; those of one name count as one. Agreements and features
        are means, weights are of all views together."""
        some = Gathered()
        some._views, some._features = self._views, self._features
        some._keys, some._agreement, some._weight = self._keys, self._agreement, self._weight
        some.rename(name)
        seen = np.flatnonzero(some._views > 0)
        return Evidence(
            superpoints=seen,
            features=np.asarray(some._features[seen] / some._views[seen, None], np.float32),
            pairs=_ends(some._keys),
            agreement=(some._agreement / np.maximum(some._weight, 1e-12)).astype(np.float32),
            weight=some._weight.astype(np.float32),
        )

    def rename(self, name: Integers) -> None:
        """Super-point i becomes name[i] (S,), numbered without gaps; those of one name become one, those named -1 are
        forgotten."""
        kept = name >= 0
        count = int(name.max(initial=-1)) + 1
        views, features = np.zeros(count), np.zeros((count, self._features.shape[1]), np.float32)
        np.add.at(views, name[kept], self._views[kept])
        np.add.at(features, name[kept], self._features[kept])
        self._views, self._features = views, features
        ends = name[_ends(self._keys)]
        two = (ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1])
        self._sum(_keys(ends[two]), self._agreement[two], self._weight[two])

    def _sum(self, keys: Integers, agreement: Floats, weight: Floats) -> None:
        """The sums by pair, of which one may come several times."""
        self._keys, owners = np.unique(keys, return_inverse=True)
        self._agreement = np.bincount(owners, agreement, len(self._keys)).astype(float)
        self._weight = np.bincount(owners, weight, len(self._keys)).astype(float)


def _keys(pairs: NDArray[np.integer]) -> Integers:
    """One number a pair (P, 2), whichever of the two is named first."""
    low, high = pairs.min(axis=1, initial=1 << _SHIFT), pairs.max(axis=1, initial=0)
    keys: Integers = (low.astype(np.int64) << _SHIFT) | high.astype(np.int64)
    return keys


def _ends(keys: Integers) -> Integers:
    """The pairs (P, 2) again."""
    return np.column_stack([keys >> _SHIFT, keys & ((1 << _SHIFT) - 1)])
