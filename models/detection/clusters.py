# SPDX-License-Identifier: Apache-2.0
"""The classical detector that the networks are compared with: clusters above the ground, rectangles, sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_models.classes import CLASSES, CYCLIST, PEDESTRIAN, VEHICLE
from perception_models.detection.pipeline import Detections
from perception_models.geometry.clusters import completed, find_clusters, rectangle
from perception_models.geometry.pillars import Floats, PillarGrid

# Lowest and highest length, width and height (m) of a cluster of each class.
SIZES = {
    PEDESTRIAN: ((0.2, 1.1), (0.1, 0.9), (1.1, 2.1)),
    CYCLIST: ((1.1, 2.2), (0.2, 1.0), (1.1, 2.1)),
    VEHICLE: ((1.4, 7.0), (0.4, 2.7), (0.9, 3.2)),
}
WHOLE = np.array([4.1, 1.75])  # m: a vehicle seen in part is completed to this, away from the sensor


def detect_clusters(points: Floats, grid: PillarGrid | None = None) -> Detections:
    """Boxes of the connected pillars of an (N, 4) cloud that have a class's size; the score grows with the points."""
    found = [_classify(cluster.points, cluster.floor) for cluster in find_clusters(points, grid)]
    kept = [one for one in found if one is not None]
    return Detections(
        np.array([box for box, _, _ in kept], np.float32).reshape(-1, 7),
        np.array([score for _, score, _ in kept], np.float32),
        np.array([label for _, _, label in kept], np.int64),
        CLASSES,
    )


def _classify(points: Floats, floor: float) -> tuple[npt.NDArray[np.float64], float, int] | None:
    """Box, score and class of one cluster, or None where no class has its size."""
    box = rectangle(points[:, :2].astype(float))
    height = float(points[:, 2].max()) - floor
    for label, limits in SIZES.items():
        if all(low <= side <= high for side, (low, high) in zip((*box[2:4], height), limits, strict=True)):
            whole = completed(box, WHOLE) if label == VEHICLE else box
            placed = np.array([whole[0], whole[1], floor + height / 2, whole[2], whole[3], height, whole[4]])
            return placed, float(1 - np.exp(-len(points) / 100)), label
    return None
