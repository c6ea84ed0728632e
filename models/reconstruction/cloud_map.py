# SPDX-License-Identifier: Apache-2.0
"""A map of what all views showed: one coloured point a voxel, weighted by confidence, of bounded size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats
from perception_models.geometry.cloud_file import write_cloud
from perception_models.geometry.voxels import in_range, voxel_keys
from perception_models.reconstruction.view import Rgb, View

Integers = NDArray[np.int64]
HEAVIEST = 1000.0  # weight of a voxel, beyond which what is new counts as if it were so heavy


class CloudMap:
    """Voxels of the world; a view adds to those it sees. At its capacity the map takes in no new voxel and says so.

    Memory is 40 bytes a voxel at most, most of it taken at the start.
    """

    def __init__(
        self, voxel: float = 0.03, capacity: int = 500_000, least_confidence: float = 1.5, reach: float = 8.0
    ) -> None:
        """voxel: edge in metres. Points enter the map whose confidence, 1 and up, is least_confidence, and which are
        nearer to the camera than reach, m. Raises ValueError where voxel or capacity is not above 0."""
        if voxel <= 0 or capacity <= 0:
            raise ValueError(f"a map has voxels and room for some, got voxel {voxel} and capacity {capacity}")
        self.voxel, self.capacity = voxel, capacity
        self.least_confidence, self.reach = least_confidence, reach
        self._means = np.zeros((capacity, 6), np.float32)  # x y z m, red green blue
        self._weights = np.zeros(capacity, np.float32)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.full = False  # whether voxels were turned away because of the capacity
        self._world = -1
        self._keys, self._rows = np.zeros(0, np.int64), np.zeros(0, np.int32)  # sorted keys, and where each is held

    def __len__(self) -> int:
        """Voxels held."""
        return len(self._keys)

    def __bool__(self) -> bool:
        """A map is one even where it is empty."""
        return True

    def add(self, view: View) -> int:
        """Take in a view -> how many voxels are new. A view that is not valid adds nothing; one of another world begins
        the map anew."""
        if not view.valid:
            return 0
        if view.world != self._world:
            self.clear()
            self._world = view.world
        distance = np.linalg.norm(view.points - view.pose[:3, 3].astype(np.float32), axis=-1)
        chosen = view.confident(self.least_confidence) & (distance < self.reach) & in_range(view.points, self.voxel)
        values = np.concatenate([view.points[chosen], view.rgb[chosen].astype(np.float32)], axis=1)
        keys, means, weights = _gathered(values, view.confidence[chosen], self.voxel)
        rows, new = self._rows_of(keys)
        held = rows >= 0
        self._blend(rows[held], means[held], weights[held])
        return new

    def _rows_of(self, keys: Integers) -> tuple[NDArray[np.int32], int]:
        """Where voxels with sorted keys (K,) are held, -1 for those that found no room, and how many are new."""
        places = np.searchsorted(self._keys, keys)
        known = places < len(self._keys)
        known[known] = self._keys[places[known]] == keys[known]
        rows = np.full(len(keys), -1, np.int32)
        rows[known] = self._rows[places[known]]
        new = np.flatnonzero(~known)
        room = self.capacity - len(self)
        self.full |= len(new) > room
        new = new[:room]
        rows[new] = np.arange(len(self), len(self) + len(new))
        self._weights[rows[new]] = 0
        self._keys = np.insert(self._keys, places[new], keys[new])
        self._rows = np.insert(self._rows, places[new], rows[new])
        return rows, len(new)

    def _blend(self, rows: NDArray[np.int32], means: Floats, weights: Floats) -> None:
        """Move each voxel's mean towards that of a view, by their weights."""
        total = self._weights[rows] + weights
        self._means[rows] += (weights / total)[:, None] * (means - self._means[rows])
        self._weights[rows] = np.minimum(total, HEAVIEST)

    @property
    def points(self) -> Floats:
        """Mean places (N, 3) float32 m in the world."""
        return self._means[: len(self), :3].copy()

    @property
    def colors(self) -> Rgb:
        """Mean colours (N, 3) uint8 RGB."""
        return np.rint(self._means[: len(self), 3:]).astype(np.uint8)

    def save(self, path: Path) -> None:
        """Write .ply or .pcd, by the name's ending. Raises ValueError for another ending, OSError where it cannot be
        written."""
        write_cloud(path, self.points, self.colors)


def _gathered(values: Floats, weights: Floats, voxel: float) -> tuple[Integers, Floats, Floats]:
    """Sorted keys (K,) of the voxels of rows x y z ... (N, C), and of each the weighted mean (K, C) and sum of weights
    (K,)."""
    keys, owners = np.unique(voxel_keys(values[:, :3], voxel), return_inverse=True)
    sums = np.bincount(owners, weights, len(keys))
    means = np.stack([np.bincount(owners, weights * column, len(keys)) for column in values.T], axis=1)
    return keys, (means / np.maximum(sums, 1e-12)[:, None]).astype(np.float32), sums.astype(np.float32)
