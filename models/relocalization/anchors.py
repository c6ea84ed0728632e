# SPDX-License-Identifier: Apache-2.0
"""Anchors: places that are spread over a scene as its key points are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

Floats = NDArray[np.float32]
CONSIDERED = 20_000  # points that are clustered; more do not move the anchors


def spread_anchors(points: Floats, count: int, seed: int = 0) -> Floats:
    """At most `count` anchors (A, 3) for points (N, 3): the means of k-means clusters of eight points and more on
    average. Raises ValueError where there is no point."""
    if len(points) == 0:
        raise ValueError("no point of the scene is known: a map needs depth, or key points that were triangulated")
    rng = np.random.default_rng(seed)
    chosen = points[rng.permutation(len(points))[:CONSIDERED]].astype(np.float64)
    count = max(1, min(count, len(chosen) // 8))
    start = chosen[rng.choice(len(chosen), count, replace=False)]
    means, _ = kmeans2(chosen, start, iter=10, minit="matrix", missing="warn")
    anchors: Floats = means.astype(np.float32)
    return anchors
