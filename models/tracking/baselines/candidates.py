# SPDX-License-Identifier: Apache-2.0
"""What in a scan may be the target: clusters above the ground, or boxes of a detector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from perception_models.geometry.clusters import Cluster, completed, find_clusters, rectangle_along

Floats = npt.NDArray[np.floating]
Boxes = npt.NDArray[np.float64]
REACH = 15.0  # m from the prediction to the middle of a cluster
LARGER = 2.0  # a cluster may be so many times as long as the target


class DetectionCandidates:
    """The boxes that `detect` finds in a scan; it is called once a scan, however many targets ask."""

    def __init__(self, detect: Callable[[Floats], Floats]) -> None:
        self._detect = detect
        self._scan: Floats | None = None
        self._boxes: Boxes = np.zeros((0, 7))

    def __call__(self, points: Floats, box: Boxes) -> Boxes:
        """Boxes (K, 7) in a scan (N, >= 3)."""
        if points is not self._scan:
            self._scan, self._boxes = points, np.asarray(self._detect(points), float).reshape(-1, 7)
        return self._boxes


class ClusterCandidates:
    """Clusters, each completed to the target's size away from the sensor, with the target's heading."""

    def __init__(self) -> None:
        self._scan: Floats | None = None
        self._clusters: list[Cluster] = []
        self._centres: Boxes = np.zeros((0, 2))

    def __call__(self, points: Floats, box: Boxes) -> Boxes:
        """Boxes (K, 7) in a scan (N, 4) of what may be the target, predicted in `box` (7,)."""
        if points is not self._scan:
            self._scan, self._clusters = points, find_clusters(np.asarray(points, np.float32))
            self._centres = np.array([one.points[:, :2].mean(axis=0) for one in self._clusters]).reshape(-1, 2)
        near = np.flatnonzero(np.hypot(*(self._centres - box[:2]).T) < REACH)
        placed = [_placed(self._clusters[index], box) for index in near]
        return np.array([one for one in placed if one is not None]).reshape(-1, 7)


def _placed(cluster: Cluster, box: Boxes) -> Boxes | None:
    """The target's box where the cluster would be its visible part; None where the cluster is too large for that."""
    seen = rectangle_along(cluster.points[:, :2].astype(float), box[6])
    if (seen[2:4] > LARGER * box[3:5]).any():
        return None
    x, y, *_ = completed(seen, box[3:5])
    return np.array([x, y, cluster.floor + box[5] / 2, *box[3:]])
