# SPDX-License-Identifier: Apache-2.0
"""Landmarks: places of the scene with one descriptor each, fused from every view that saw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Matrix
from perception_models.relocalization.features import Floats, unit
from perception_models.relocalization.line_landmarks import LineLandmarks, fuse_lines
from perception_models.relocalization.settings import MapSettings
from perception_models.relocalization.tracking import Observations
from perception_models.relocalization.views import View

LEVELS = 127  # of a signed byte


@dataclass(frozen=True)
class Landmarks:
    """Those that most views saw come first. positions (N, 3) in the map, metres; descriptors (N, D) of about unit
    length, in steps of `step`; poses (V, 4, 4) of the map's views, camera -> map; seen (M,): landmarks that a view saw,
    view after view; starts (V + 1,): where each view begins in `seen`; lines: segments beside the points."""

    positions: Floats
    descriptors: Floats
    step: float
    poses: Matrix
    seen: NDArray[np.int64]
    starts: NDArray[np.int64]
    lines: LineLandmarks = field(default_factory=LineLandmarks.none)

    def __len__(self) -> int:
        return len(self.positions)

    def seen_by(self, views: NDArray[np.int64]) -> NDArray[np.int64]:
        """Landmarks (K,) that at least one of some views saw, in order."""
        parts = [self.seen[self.starts[view] : self.starts[view + 1]] for view in views]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def nearest_views(self, pose: Matrix, count: int) -> NDArray[np.int64]:
        """The map's views that look most as a camera at `pose` does: a metre weighs as much as a radian."""
        distance = np.linalg.norm(self.poses[:, :3, 3] - pose[:3, 3], axis=1)
        traces = np.einsum("nij,ij->n", self.poses[:, :3, :3], pose[:3, :3])
        angle = np.arccos(np.clip((traces - 1) / 2, -1, 1))
        return np.argsort(distance + angle, kind="stable")[:count]


def fuse(views: Sequence[View], observed: Observations, settings: MapSettings) -> Landmarks:
    """Landmarks at the mean of where their views saw them; those that too few views saw are left out."""
    counts = np.bincount(observed.landmarks)
    kept = np.argsort(-counts, kind="stable")[: settings.max_landmarks]
    kept = kept[counts[kept] >= settings.min_views]
    number = np.full(len(counts), -1)
    number[kept] = np.arange(len(kept))
    ids = number[observed.landmarks]
    used = ids >= 0
    ids, seen_in = ids[used], observed.views[used]
    starts = np.cumsum([0, *(len(view.features) for view in views)])
    rows = (starts[observed.views] + observed.key_points)[used]
    positions = _sums(np.concatenate([view.surface for view in views])[rows], ids, len(kept)) / counts[kept, None]
    descriptors = unit(_sums(np.concatenate([view.features.descriptors for view in views])[rows], ids, len(kept)))
    step = float(np.abs(descriptors).max(initial=1e-6) / LEVELS)
    return Landmarks(
        positions.astype(np.float32),
        np.rint(descriptors / step).astype(np.float32) * np.float32(step),
        step,
        np.stack([view.pose for view in views]),
        ids,
        np.searchsorted(seen_in, np.arange(len(views) + 1)),
        fuse_lines(views, settings) if settings.lines else LineLandmarks.none(),
    )


def _sums(rows: Floats, ids: NDArray[np.int64], count: int) -> Floats:
    """Sums (count, C) of the rows (M, C) that have the same id."""
    order = np.argsort(ids, kind="stable")
    total = np.zeros((count, rows.shape[1]), np.float32)
    present, first = np.unique(ids[order], return_index=True)
    if len(present):
        total[present] = np.add.reduceat(rows[order], first)
    return total
