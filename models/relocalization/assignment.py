# SPDX-License-Identifier: Apache-2.0
"""Of candidate pairs with scores those that are best for both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def best_pairs(left: Indices, right: Indices, scores: NDArray[np.floating]) -> tuple[Indices, Indices]:
    """Of candidate pairs (M,) those that are the best of their left and of their right index."""
    order = np.argsort(-scores, kind="stable")
    left, right = left[order], right[order]
    best = _first(left) & _first(right)
    return left[best], right[best]


def _first(values: Indices) -> NDArray[np.bool_]:
    """Marks the first occurrence of each value."""
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first
