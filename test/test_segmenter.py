# SPDX-License-Identifier: Apache-2.0
"""The segmenter on a small simulated room whose true masks are known, and views that must be left out."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from perception_models.evaluation.instances import SceneLabels, instance_figures
from perception_models.geometry.boxes import iou_3d
from perception_models.geometry.cameras import RgbdFrame, frame_points
from perception_models.segmentation.instances import as_instances, group_scores, upright_box
from perception_models.segmentation.pipeline import Segmenter
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_drive import simulate_room
from perception_nodes.judges.true_masks import TruePredictor

SETTINGS = SegmentationSettings(voxel=0.02, stride=2, min_pixels=20)


@lru_cache(maxsize=1)
def room() -> tuple[list[RgbdFrame], list[np.ndarray], np.ndarray, np.ndarray]:
    """Frames of a walk, each thing in a colour of its own, with instances; points with theirs, -1 for the building."""
    rng = np.random.default_rng(0)
    shades = rng.integers(60, 200, (400, 3), dtype=np.uint8)
    grain = rng.integers(0, 30, (120, 160, 1), dtype=np.uint8)
    views = list(simulate_room(5, 6, KINECT.scaled(0.25), color=False, rate=1.0))
    frames = [replace(view.frame, rgb=shades[view.instances] + grain) for view in views]
    points = np.concatenate([frame_points(frame) for frame in frames])
    seen = [np.where(view.instances > 0, view.instances, -1)[np.asarray(view.frame.depth) > 0] for view in views]
    return frames, [view.instances for view in views], points, np.concatenate(seen)


def segmenter() -> Segmenter:
    frames, instances, _, _ = room()
    return Segmenter(TruePredictor(frames, instances), SETTINGS)


def test_true_masks_give_the_instances_back() -> None:
    frames, _, points, truth = room()

    found = segmenter().segment(points, frames)

    figures = instance_figures([SceneLabels(found.labels, found.scores, truth)])
    assert figures["ap_50"] > 60
    assert found.skipped == ()
    assert found.labels.shape == (len(points),) and found.labels.max() + 1 == len(found) == len(found.boxes)
    assert (np.diff(found.scores) <= 0).all()


def test_views_are_better_than_geometry_alone() -> None:
    frames, instances, points, truth = room()
    rng = np.random.default_rng(0)
    frames = [
        replace(frame, rgb=rng.integers(90, 120, frame.rgb.shape, np.uint8)) for frame in frames
    ]  # all of a colour

    alone = Segmenter(None, SETTINGS).segment(points, frames)
    seen = Segmenter(TruePredictor(frames, instances), SETTINGS).segment(points, frames)

    both = [instance_figures([SceneLabels(one.labels, one.scores, truth)])["ap_50"] for one in (alone, seen)]
    assert both[0] < both[1]


def test_a_cloud_without_frames_is_segmented_by_its_surface() -> None:
    ball = np.random.default_rng(0).normal(size=(8000, 3))
    ball *= 0.1 / np.linalg.norm(ball, axis=1, keepdims=True)
    balls = [ball + centre for centre in ([0, 0, 1.0], [0.5, 0, 1.0])]
    seen = [points[np.einsum("ij,ij->i", points, ball) < 0] for points in balls]  # from the origin

    found = Segmenter(None).segment(np.concatenate(seen))

    assert len(found) == 2
    assert len(set(found.labels[: len(seen[0])])) == len(set(found.labels[len(seen[0]) :])) == 1


def test_views_that_cannot_be_used_are_left_out_with_a_reason() -> None:
    frames, _, points, _ = room()
    view = frames[0]
    assert view.pose is not None
    away = view.pose.copy()
    away[:3, 3] += view.pose[:3, :3] @ [0.0, 0.0, 0.8]
    bad = [
        replace(view, depth=None),
        replace(view, pose=None),
        replace(view, pose=np.full((4, 4), np.nan)),
        replace(view, rgb=np.zeros_like(view.rgb)),
        replace(view, pose=away),
    ]

    found = segmenter().segment(points, [*bad, *frames])

    reasons = ["no depth", "no pose", "not finite", "black", "contradicts the cloud"]
    assert len(found.skipped) == len(reasons)
    for number, (reason, text) in enumerate(zip(reasons, found.skipped, strict=True)):
        assert reason in text and text.startswith(f"view {number}:")
    assert np.array_equal(found.labels, segmenter().segment(points, frames).labels)


def test_what_is_no_cloud_is_refused_and_an_empty_one_has_no_instance() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\), finite"):
        Segmenter().segment(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="finite"):
        Segmenter().segment(np.full((5, 3), np.nan))
    assert len(Segmenter().segment(np.zeros((0, 3)))) == 0
    assert Segmenter().segment(np.zeros((1, 3))).labels.tolist() == [-1]


def test_boxes_are_the_smallest_around_the_points() -> None:
    box = np.array([1, 2, 3, 2.0, 0.5, 0.4, 0.6], np.float32)
    local = np.random.default_rng(0).uniform(-0.5, 0.5, (20000, 3)) * box[3:6]
    c, s = np.cos(box[6]), np.sin(box[6])
    points = (local @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + box[:3]).astype(np.float32)

    found = upright_box(points)

    assert iou_3d(found[None], box[None])[0, 0] > 0.97
    np.testing.assert_allclose(found, box, atol=0.02)


def test_instances_go_by_score_and_small_groups_are_none() -> None:
    labels = np.repeat(np.int32([0, 1, 2, -1]), [10, 3, 20, 5])
    points = np.random.default_rng(0).random((38, 3)).astype(np.float32)

    found = as_instances(points, labels, np.float32([0.2, 0.9, 0.7]), 5)

    assert found.labels.tolist() == [1] * 10 + [-1] * 3 + [0] * 20 + [-1] * 5
    assert found.scores.tolist() == pytest.approx([0.7, 0.2])
    assert found.boxes[1, 2] == pytest.approx((points[:10, 2].min() + points[:10, 2].max()) / 2)


def test_groups_that_hold_together_and_apart_from_others_are_sure() -> None:
    edges, size = np.array([(0, 1), (2, 3), (1, 2)]), np.array([10, 10, 10, 10])

    scores = group_scores(np.int32([0, 0, 1, 1]), size, edges, np.float32([0.9, 0.6, 0.1]))

    assert scores.tolist() == pytest.approx([0.9, 0.75])
    assert group_scores(np.int32([0]), size[:1], edges[:0], np.float32([])).tolist() == [0.5]
