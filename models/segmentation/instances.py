# SPDX-License-Identifier: Apache-2.0
"""Instances: groups of super-points with scores and upright boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from perception_models.geometry.boxes import wrap_angle

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Instances:
    """labels (N,) int32: the instance 0..K-1 of each point, -1 for none; scores (K,) float32, 0 to 1; boxes (K, 7)
    float32 x y z l w h yaw. `skipped`: why views were left out."""

    labels: Labels
    scores: Floats
    boxes: Floats
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)


def group_scores(
    groups: Labels, size: npt.NDArray[np.integer], edges: npt.NDArray[np.integer], affinity: Floats
) -> Floats:
    """How sure groups (K,) of super-points (S,) of `size` points (S,) are, 0 to 1: how much their edges (E, 2) hold
    together inside and how little they hold across, by the smaller end's points."""
    count = int(groups.max(initial=-1)) + 1
    one, other = groups[edges].T
    mass = np.minimum(*size[edges].T).astype(np.float64)
    held = np.where(one == other, affinity, 1 - affinity) * mass
    total, sure = np.zeros(count), np.zeros(count)
    for side, each in ((one, np.ones(len(one), bool)), (other, one != other)):
        total += np.bincount(side[each], mass[each], count)
        sure += np.bincount(side[each], held[each], count)
    return np.where(total > 0, sure / np.maximum(total, 1e-9), 0.5).astype(np.float32)


def as_instances(
    points: Floats, labels: Labels, scores: Floats, min_points: int, skipped: tuple[str, ...] = ()
) -> Instances:
    """Instances of groups (N,) of points (N, 3) with scores (G,), by falling score; smaller groups are none."""
    size = np.bincount(labels[labels >= 0], minlength=len(scores))
    kept = np.flatnonzero(size >= min_points)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    name = np.full(len(scores) + 1, -1, np.int32)  # the last is of label -1
    name[kept] = np.arange(len(kept))
    labels = name[labels]
    order = np.argsort(labels, kind="stable")[(labels < 0).sum() :]
    members = np.split(points[order], np.cumsum(np.bincount(labels[order], minlength=len(kept)))[:-1])
    boxes = [upright_box(part) for part in members] if len(kept) else []
    return Instances(labels, scores[kept], np.array(boxes, np.float32).reshape(-1, 7), skipped)


def upright_box(points: Floats) -> Floats:
    """The upright box (7,) x y z l w h yaw of least area from above around points (N, 3), l not less than w."""
    low, high = points[:, 2].min(), points[:, 2].max()
    (x, y), (length, width), degrees = cv2.minAreaRect(np.ascontiguousarray(points[:, :2], np.float32))
    yaw = np.radians(degrees)
    if width > length:
        length, width, yaw = width, length, yaw + np.pi / 2
    yaw = wrap_angle(np.asarray(2 * yaw)) / 2  # a box and the same turned by half a circle are one
    return np.array([x, y, (low + high) / 2, length, width, high - low, yaw], np.float32)
