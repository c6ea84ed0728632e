# SPDX-License-Identifier: Apache-2.0
"""Boxes and suppression against independent slow references."""

import numpy as np
import pytest

from perception_models.geometry.boxes import (
    corners_3d,
    corners_bev,
    iou_3d,
    iou_bev,
    points_in_boxes,
    transform_boxes,
    wrap_angle,
)
from perception_models.geometry.nms import nms_bev
from perception_models.geometry.se3 import apply, from_yaw_pitch_roll


def random_boxes(rng: np.random.Generator, count: int, spread: float = 4.0) -> np.ndarray:
    centre = rng.uniform(-spread, spread, (count, 3)) * [1, 1, 0.2]
    return np.concatenate([centre, rng.uniform(0.4, 5, (count, 3)), rng.uniform(-4, 4, (count, 1))], axis=1)


def clip_polygon(subject: list[np.ndarray], clip: np.ndarray) -> list[np.ndarray]:
    """Sutherland-Hodgman, one edge at a time."""
    for start, end in zip(clip, np.roll(clip, -1, axis=0), strict=True):
        side = [np.cross(np.append(end - start, 0), np.append(p - start, 0))[2] for p in subject]
        result: list[np.ndarray] = []
        for i, point in enumerate(subject):
            j = (i + 1) % len(subject)
            if side[i] >= 0:
                result.append(point)
            if side[i] * side[j] < 0:
                result.append(point + (subject[j] - point) * side[i] / (side[i] - side[j]))
        subject = result
    return subject


def slow_overlap(a: np.ndarray, b: np.ndarray) -> float:
    polygon = clip_polygon(list(corners_bev(a[None])[0]), corners_bev(b[None])[0])
    if len(polygon) < 3:
        return 0.0
    x, y = np.array(polygon).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def slow_height(a: np.ndarray, b: np.ndarray) -> float:
    return min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2)


def test_iou_equals_polygon_clipping_one_pair_at_a_time() -> None:
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 30), random_boxes(rng, 25)
    area = np.array([[slow_overlap(p, q) for q in b] for p in a])
    height = np.array([[slow_height(p, q) for q in b] for p in a])
    flat = area / (np.add.outer(a[:, 3] * a[:, 4], b[:, 3] * b[:, 4]) - area)
    volume = area * np.maximum(height, 0)
    solid = volume / (np.add.outer(a[:, 3:6].prod(1), b[:, 3:6].prod(1)) - volume)
    assert (area > 0).mean() > 0.2
    np.testing.assert_allclose(iou_bev(a, b), flat, atol=1e-8)
    np.testing.assert_allclose(iou_3d(a, b), solid, atol=1e-8)


def test_iou_equals_the_share_of_a_fine_grid() -> None:
    a, b = np.array([[0, 0, 0, 4, 2, 1, 0.3]]), np.array([[0.7, 0.4, 0, 3, 2.5, 1, -0.9]])
    grid = np.stack(np.meshgrid(np.linspace(-4, 4, 801), np.linspace(-4, 4, 801)), axis=-1).reshape(-1, 2)
    inside = points_in_boxes(np.pad(grid, ((0, 0), (0, 1))), np.concatenate([a, b]))
    share = inside.all(axis=1).sum() / inside.any(axis=1).sum()
    assert iou_bev(a, b)[0, 0] == pytest.approx(share, abs=3e-3)


@pytest.mark.parametrize("yaw", [0.0, np.pi / 2, np.pi, 1e-13, 0.7, -3.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coincident_edges_count_once(yaw: float, dtype: type) -> None:
    box = np.array([[50.0, -20, 1, 4, 2, 1.5, yaw]], dtype)
    assert iou_bev(box, box)[0, 0] == pytest.approx(1)
    assert iou_3d(box, box)[0, 0] == pytest.approx(1)
    turned = box + np.array([[0, 0, 0, 0, 0, 0, np.pi]], dtype)
    assert iou_bev(box, turned)[0, 0] == pytest.approx(1, abs=1e-5)
    half = box * np.array([[1, 1, 1, 1, 0.5, 1, 1]], dtype)
    half[:, :2] += dtype(0.5) * np.array([[-np.sin(yaw), np.cos(yaw)]], dtype)
    assert iou_bev(box, half)[0, 0] == pytest.approx(0.5, abs=1e-5)
    assert iou_bev(half, box)[0, 0] == pytest.approx(0.5, abs=1e-5)


def test_boxes_that_touch_or_lie_above_each_other_do_not_overlap() -> None:
    box = np.array([[0.0, 0, 0, 4, 2, 1, 0]])
    assert iou_bev(box, box + np.array([0, 2, 0, 0, 0, 0, 0]))[0, 0] == pytest.approx(0, abs=1e-8)
    assert iou_3d(box, box + np.array([0, 0, 1.5, 0, 0, 0, 0]))[0, 0] == 0
    assert iou_bev(box, np.zeros((0, 7))).shape == (1, 0)


def test_points_in_boxes_agrees_with_the_corners() -> None:
    rng = np.random.default_rng(1)
    boxes = random_boxes(rng, 12)
    points = rng.uniform(-6, 6, (500, 4))
    corners = corners_3d(boxes)
    origin = corners[:, 2]
    axes = corners[:, [3, 1, 6]] - origin[:, None]
    share = np.einsum("nkc,kac->nka", points[:, None, :3] - origin, axes) / (axes**2).sum(-1)
    expected = ((share >= 0) & (share <= 1)).all(-1)
    assert expected.any()
    np.testing.assert_array_equal(points_in_boxes(points, boxes), expected)


def test_transformed_boxes_have_the_transformed_corners() -> None:
    boxes = random_boxes(np.random.default_rng(2), 6)
    transform = from_yaw_pitch_roll(2.1, 0, 0, [3, -4, 0.5])
    expected = apply(transform, corners_3d(boxes))
    np.testing.assert_allclose(corners_3d(transform_boxes(boxes, transform)), expected, atol=1e-9)
    assert transform_boxes(boxes.astype(np.float32), transform).dtype == np.float32


def test_wrap_angle_keeps_the_direction_within_half_a_turn() -> None:
    angle = np.linspace(-20, 20, 401)
    wrapped = wrap_angle(angle)
    assert wrapped.min() >= -np.pi and wrapped.max() < np.pi
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angle), atol=1e-12)


@pytest.mark.parametrize("max_keep", [5, 1000])
def test_nms_equals_the_plain_double_loop(max_keep: int) -> None:
    rng = np.random.default_rng(3)
    boxes, scores = random_boxes(rng, 120, 12), rng.random(120)
    kept: list[int] = []
    for candidate in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        areas = boxes[:, 3] * boxes[:, 4]
        shared = [slow_overlap(boxes[candidate], boxes[k]) for k in kept]
        if all(s / (areas[candidate] + areas[k] - s) <= 0.2 for s, k in zip(shared, kept, strict=True)):
            kept.append(candidate)
    assert nms_bev(boxes, scores, 0.2, max_keep).tolist() == kept[:max_keep]
    assert nms_bev(np.zeros((0, 7)), np.zeros(0), 0.2, 10).shape == (0,)
