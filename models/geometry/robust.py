# SPDX-License-Identifier: Apache-2.0
"""Averages that a few wrong values do not move."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def weighted_median(values: ArrayLike, weights: ArrayLike) -> float:
    """The m at which sum(weights * |values - m|) is least, values and weights (N,), weights not negative; NaN where
    they are all 0, or there are none."""
    flat, heavy = np.ravel(np.asarray(values, np.float64)), np.ravel(np.asarray(weights, np.float64))
    order = np.argsort(flat)
    below = np.cumsum(heavy[order])
    if not len(flat) or below[-1] <= 0:
        return float("nan")
    return float(flat[order[np.searchsorted(below, below[-1] / 2)]])
