# SPDX-License-Identifier: Apache-2.0
"""A cloud with one point a voxel: the mean of its points, so that noise sinks and density is even."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.geometry.voxels import voxel_keys

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Thinned:
    """points (M, 3) float32 m, and which of them (N,) stands for each point of the whole cloud."""

    points: Floats
    rows: npt.NDArray[np.int64]

    @staticmethod
    def of(points: Floats, voxel: float) -> Thinned:
        """Average voxels of edge `voxel` m, by place. Raises ValueError as `voxel_keys`."""
        keys, rows = np.unique(voxel_keys(points, voxel), return_inverse=True)
        return Thinned(means(points, rows, len(keys)), rows)

    def mean(self, values: npt.NDArray[np.generic]) -> Floats:
        """Mean (M, C) of values (N, C) of the whole cloud."""
        return means(values, self.rows, len(self.points))


def means(values: npt.NDArray[np.generic], owners: npt.NDArray[np.integer], count: int) -> Floats:
    """Mean (count, C) of the rows of values (N, C) by owner (N,); 0 for owners of none."""
    sums = np.stack([np.bincount(owners, column, count) for column in values.T], axis=1)
    return (sums / np.maximum(np.bincount(owners, minlength=count), 1)[:, None]).astype(np.float32)
