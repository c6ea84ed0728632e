# SPDX-License-Identifier: Apache-2.0
"""Upright 3D boxes: (K, 7) x y z l w h yaw, the centre in metres, l along the heading, yaw about +z in radians."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Counter-clockwise from the front left corner, in half lengths and half widths.
_CORNERS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
# Edges that coincide would be counted for both boxes: one box is made smaller by a part that no figure can show.
_SHRINK = 1 - 1e-9


def wrap_angle(angle: Floats) -> Floats:
    """Angles in radians wrapped to [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def corners_bev(boxes: Floats) -> Floats:
    """Bird's-eye corners (K, 4, 2): front left, rear left, rear right, front right (counter-clockwise)."""
    return _rotate(boxes[:, None, 3:5] * _CORNERS.astype(boxes.dtype), boxes[:, 6, None]) + boxes[:, None, :2]


def corners_3d(boxes: Floats) -> Floats:
    """Corners (K, 8, 3): the four bird's-eye corners at the bottom, then the same four at the top."""
    flat = np.tile(corners_bev(boxes), (1, 2, 1))
    height = boxes[:, None, 2] + boxes[:, None, 5] * np.repeat([-0.5, 0.5], 4).astype(boxes.dtype)
    return np.concatenate([flat, height[:, :, None]], axis=2)


def points_in_boxes(points: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Which points (N, >= 3) lie in which boxes (K, 7), the surface included: (N, K) bool."""
    inside = np.zeros((len(points), len(boxes)), bool)
    x = np.ascontiguousarray(points[:, 0])
    for column, box in enumerate(boxes):
        # A cheap strip first: only the few points near the box are turned into its frame.
        near = np.flatnonzero(np.abs(x - box[0]) <= np.hypot(box[3], box[4]) / 2)
        local = points[near, :3] - box[:3]
        local[:, :2] = _rotate(local[:, :2], -box[6])
        inside[near, column] = (np.abs(local) <= box[3:6] / 2).all(axis=1)
    return inside


def transform_boxes(boxes: Floats, transform: NDArray[np.float64]) -> Floats:
    """Boxes moved by a rigid transform (4, 4); they stay upright: of the rotation only the heading is kept."""
    moved = boxes.copy()
    moved[:, :3] = boxes[:, :3] @ transform[:3, :3].T + transform[:3, 3]
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=1) @ transform[:2, :2].T
    moved[:, 6] = wrap_angle(np.arctan2(heading[:, 1], heading[:, 0]))
    return moved


def iou_bev(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Exact bird's-eye intersection over union of rotated boxes a (K, 7) and b (M, 7): (K, M), 0 to 1."""
    overlap = _overlap_bev(a, b)
    return _over_union(overlap, _product(a, slice(3, 5)), _product(b, slice(3, 5)))


def iou_3d(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Exact intersection over union of upright rotated boxes a (K, 7) and b (M, 7): (K, M), 0 to 1."""
    z, half = (np.asarray(a[:, 2], float), np.asarray(b[:, 2], float)), (a[:, 5] / 2, b[:, 5] / 2)
    top = np.minimum.outer(z[0] + half[0], z[1] + half[1])
    bottom = np.maximum.outer(z[0] - half[0], z[1] - half[1])
    overlap = _overlap_bev(a, b) * np.maximum(top - bottom, 0)
    return _over_union(overlap, _product(a, slice(3, 6)), _product(b, slice(3, 6)))


def _product(boxes: Floats, sides: slice) -> NDArray[np.float64]:
    product: NDArray[np.float64] = np.prod(boxes[:, sides], axis=1, dtype=np.float64)
    return product


def _over_union(overlap: Floats, size_a: Floats, size_b: Floats) -> NDArray[np.float64]:
    union = np.add.outer(size_a, size_b) - overlap
    iou: NDArray[np.float64] = overlap / np.maximum(union, np.finfo(float).tiny)
    return iou


def _rotate(vectors: Floats, angle: Floats) -> Floats:
    """Vectors (..., 2) turned counter-clockwise by angles that broadcast to (...)."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _overlap_bev(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Overlap areas (K, M): pairs whose circumscribed circles are apart are skipped."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    distance = np.hypot(*(np.subtract.outer(a[:, axis], b[:, axis]) for axis in (0, 1)))
    reach = np.add.outer(np.hypot(a[:, 3], a[:, 4]), np.hypot(b[:, 3], b[:, 4])) / 2
    rows, columns = np.nonzero(distance < reach)
    overlap = np.zeros((len(a), len(b)))
    overlap[rows, columns] = _pair_overlap(a[rows], b[columns])
    return overlap


def _pair_overlap(a: Floats, b: Floats) -> Floats:
    """Overlap area (P,) of box pairs a, b (P, 7) by Green's theorem.

    The boundary of the intersection is made of the parts of a's edges inside b and of b's edges inside a.
    """
    offset, turn = _rotate(b[:, :2] - a[:, :2], -a[:, 6]), b[:, 6] - a[:, 6]
    half_a, half_b = a[:, None, 3:5] / 2, b[:, None, 3:5] / 2 * _SHRINK
    corners_a = 2 * half_a * _CORNERS
    corners_b = 2 * half_b * _CORNERS
    b_in_frame_a = _rotate(corners_b, turn[:, None]) + offset[:, None]
    a_in_frame_b = _rotate(corners_a - offset[:, None], -turn[:, None])
    area = _swept_area(corners_a, _clip(a_in_frame_b, half_b)) + _swept_area(b_in_frame_a, _clip(b_in_frame_a, half_a))
    return np.maximum(area, 0)


def _clip(corners: Floats, half: Floats) -> tuple[Floats, Floats]:
    """Fractions (P, 4) where edges of polygons (P, 4, 2) enter and leave |x|, |y| <= half (P, 1, 2) (Liang, Barsky)."""
    step = np.roll(corners, -1, axis=1) - corners
    step = np.where(np.abs(step) < 1e-200, 1e-200, step)
    bounds = np.stack([(-half - corners) / step, (half - corners) / step])
    enter = np.maximum(bounds.min(axis=0).max(axis=2), 0)
    leave = np.minimum(bounds.max(axis=0).min(axis=2), 1)
    return enter, np.maximum(leave, enter)


def _swept_area(corners: Floats, fractions: tuple[Floats, Floats]) -> Floats:
    """Area (P,) that the clipped edges of polygons (P, 4, 2) sweep about the origin."""
    step = np.roll(corners, -1, axis=1) - corners
    cross = corners[..., 0] * step[..., 1] - corners[..., 1] * step[..., 0]
    swept: Floats = (cross * (fractions[1] - fractions[0])).sum(axis=1) / 2
    return swept
