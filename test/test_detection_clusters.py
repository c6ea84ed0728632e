# SPDX-License-Identifier: Apache-2.0
"""The classical baseline finds what stands alone on flat ground."""

import numpy as np

from perception_models.classes import PEDESTRIAN, VEHICLE
from perception_models.detection.clusters import detect_clusters
from perception_models.geometry.boxes import iou_bev


def surface(box: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, 4) on the four sides of a box."""
    side = rng.integers(0, 4, count)
    u, v, z = rng.uniform(-0.5, 0.5, (3, count))
    x = np.where(side < 2, u, np.where(side == 2, 0.5, -0.5)) * box[3]
    y = np.where(side >= 2, v, np.where(side == 0, 0.5, -0.5)) * box[4]
    c, s = np.cos(box[6]), np.sin(box[6])
    return np.stack([box[0] + x * c - y * s, box[1] + x * s + y * c, box[2] + z * box[5], 0 * z], axis=1)


def test_a_car_and_a_person_alone_are_found_with_their_size_and_class() -> None:
    rng = np.random.default_rng(0)
    ground = rng.uniform([-20, -20, -1.72, 0], [20, 20, -1.68, 0], (60000, 4))
    car = np.array([8, 5, -0.95, 4.4, 1.8, 1.5, 0.5])
    person = np.array([-6, 3, -0.85, 0.6, 0.5, 1.7, 0.0])
    cloud = np.concatenate([ground, surface(car, 2000, rng), surface(person, 400, rng)]).astype(np.float32)
    found = detect_clusters(cloud)
    for truth, label in ((car, VEHICLE), (person, PEDESTRIAN)):
        overlap = iou_bev(truth[None], found.boxes[found.labels == label])
        assert overlap.max(initial=0) > 0.7


def test_an_empty_cloud_gives_nothing() -> None:
    assert detect_clusters(np.zeros((0, 4), np.float32)).boxes.shape == (0, 7)
