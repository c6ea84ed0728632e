# SPDX-License-Identifier: Apache-2.0
"""Instance ids that stay: new groups take over the ids of the old ones of which they hold most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
NEW = 0  # id of what never had one


def keep_identities(groups: Integers, former: Integers, sizes: Integers, next_id: int, older: float) -> Integers:
    """Ids (S,) of super-points that the cut put into groups (S,), given their former ids (S,), 0 for none, and sizes.

    An old instance goes to the group that holds the largest part of it, where it is one of several to go to the same
    group the oldest of those gives its id, unless its part is smaller than `older` of the largest part. Groups to
    which none goes are new and count up from `next_id`. Super-points of one group always get one id, those of
    different groups never the same one.
    """
    _, groups = np.unique(groups, return_inverse=True)
    count = int(groups.max()) + 1 if len(groups) else 0
    had = former != NEW
    names, olds = np.unique(former[had], return_inverse=True)
    shares = np.zeros((count, len(names)))
    np.add.at(shares, (groups[had], olds), sizes[had])
    heirs = shares.argmax(axis=0) if count else np.zeros(0, np.int64)
    ids = np.zeros(count, np.int64)
    for group in range(count):
        ids[group] = _inherited(names, shares[group], heirs == group, older)
    new = ids == NEW
    ids[new] = next_id + np.arange(new.sum())
    return ids[groups]


def _inherited(names: Integers, shares: NDArray[np.float64], comes: NDArray[np.bool_], older: float) -> int:
    """The oldest id, which is the least, of old instances that come to a group and are not negligible in it."""
    if not comes.any():
        return NEW
    largest = shares[comes].max()
    return int(names[comes & (shares >= older * largest)].min())
