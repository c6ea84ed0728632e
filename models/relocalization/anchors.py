# SPDX-License-Identifier: Apache-2.0
"""Anchors: places that are spread over a scene as its key points are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float32]
CONSIDERED = 20_000  # points that are clustered; more do not move the anchors
ROUNDS = 10


def spread_anchors(points: Floats, count: int, seed: int = 0) -> Floats:
    """At most `count` anchors (A, 3) for points (N, 3): the means of k-means clusters of eight points and more on
    average. Raises ValueError where there is no point."""
    if len(points) == 0:
        raise ValueError("no point of the scene is known: a map needs depth, or key points that were triangulated")
    rng = np.random.default_rng(seed)
    chosen = points[rng.permutation(len(points))[:CONSIDERED]].astype(np.float64)
    count = max(1, min(count, len(chosen) // 8))
    anchors = chosen[rng.choice(len(chosen), count, replace=False)]
    for _ in range(ROUNDS):
        nearest = cKDTree(anchors).query(chosen)[1]
        sums = np.stack([np.bincount(nearest, chosen[:, axis], count) for axis in range(3)], axis=1)
        members = np.bincount(nearest, minlength=count)[:, None]
        anchors = np.where(members > 0, sums / np.maximum(members, 1), anchors)
    return anchors.astype(np.float32)
