# SPDX-License-Identifier: Apache-2.0
"""The committed detector: what it accepts, what it reports, and that it finds vehicles in scenes it never saw."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from perception_models.detection import Detector
from perception_models.geometry.boxes import iou_bev, points_in_boxes
from perception_models.runtime import BadWeights
from perception_models.simulation import LidarFrame
from perception_models.simulation.drive import simulate_drive
from perception_nodes.kitti import KittiDrive


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(threads=2)


@pytest.fixture(scope="module")
def frames() -> list[LidarFrame]:
    return list(simulate_drive(seed=77, seconds=1.0))[::3]


def recall(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Share of true boxes that a found box overlaps by half in bird's-eye view."""
    hits = [iou_bev(t, f).max(axis=1, initial=0) >= 0.5 for f, t in zip(found, truth, strict=True)]
    return float(np.concatenate(hits).mean())


def test_an_empty_cloud_gives_no_detections(detector: Detector) -> None:
    found = detector.detect(np.zeros((0, 4), np.float32))
    assert found.boxes.shape == (0, 7) and len(found.scores) == len(found.labels) == 0


def test_a_cloud_of_nan_gives_no_detections(detector: Detector) -> None:
    assert len(detector.detect(np.full((1000, 4), np.nan, np.float32)).boxes) == 0


@pytest.mark.parametrize(
    "points", [np.zeros((5, 3), np.float32), np.zeros((5, 4)), np.zeros(4, np.float32), [[0.0, 0.0, 0.0, 0.0]]]
)
def test_another_shape_or_type_is_a_clear_error(detector: Detector, points: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"float32 array \(N, 4\) of x y z intensity, got"):
        detector.detect(points)


def test_broken_points_do_not_change_the_result(detector: Detector, frames: list[LidarFrame]) -> None:
    points = frames[0].points
    broken = np.concatenate([np.full((50, 4), np.nan, np.float32), points, np.full((50, 4), np.inf, np.float32)])
    clean, dirty = detector.detect(points), detector.detect(broken)
    np.testing.assert_allclose(dirty.boxes, clean.boxes, atol=1e-4)


def test_the_order_of_points_hardly_changes_the_boxes(detector: Detector, frames: list[LidarFrame]) -> None:
    points = frames[0].points
    shuffled = detector.detect(np.random.default_rng(0).permutation(points))
    clean = detector.detect(points)
    sure = clean.boxes[clean.scores > 0.6]
    # Which of a full pillar's points at equal height are kept does depend on their order.
    overlap = iou_bev(sure, shuffled.boxes).max(axis=1)
    assert len(sure) > 3 and (overlap > 0.5).all() and np.median(overlap) > 0.98


def test_threads_scores_and_timing_are_as_asked(frames: list[LidarFrame]) -> None:
    strict = Detector.load(threads=1, score_threshold=(0.6, 1.0, 1.0))
    found = strict.detect(frames[0].points)
    assert (found.labels == 0).all() and (found.scores >= 0.6).all()
    assert set(strict.timing) == {"preprocess", "inference", "postprocess"} and strict.overflow == 0


def test_an_unknown_variant_is_named_with_those_that_there_are() -> None:
    with pytest.raises(BadWeights, match="variants here: compact"):
        Detector.load("nosuch")


def test_unseen_simulated_vehicles_are_found(detector: Detector, frames: list[LidarFrame]) -> None:
    truth, found = [], []
    for frame in frames:
        seen = (frame.labels == 0) & (frame.num_points >= 30) & (np.hypot(*frame.boxes[:, :2].T) < 40)
        result = detector.detect(frame.points)
        truth.append(frame.boxes[seen])
        found.append(result.boxes[result.labels == 0])
    assert sum(map(len, truth)) > 20
    assert recall(found, truth) > 0.85


def test_real_vehicles_are_found(detector: Detector, perception_data: Path) -> None:
    """Drive 0005: labelled cars and vans with 30 points or more within 40 m. Nothing of it was trained on."""
    folder = perception_data / "kitti/2011_09_26/2011_09_26_drive_0005_sync"
    if not folder.is_dir():
        pytest.skip(f"drive 0005 is not in {perception_data}")
    truth, found = [], []
    for scan in islice(KittiDrive(folder), 0, None, 30):
        assert scan.objects is not None
        vehicles = scan.objects.boxes[[name == "vehicle" for name in scan.objects.names]]
        seen = points_in_boxes(scan.points, vehicles).sum(axis=0) >= 30
        truth.append(vehicles[seen & (np.hypot(*vehicles[:, :2].T) < 40)])
        result = detector.detect(scan.points)
        found.append(result.boxes[result.labels == 0])
    assert recall(found, truth) > 0.8
