# SPDX-License-Identifier: Apache-2.0
"""The voxels that points lie in, each as one number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS, MIDDLE = 21, 1 << 20  # of a voxel's place on one axis


def in_range(points: NDArray[np.floating], voxel: float) -> NDArray[np.bool_]:
    """Which points (..., 3) lie in voxels that have a number: within a million of them from the origin."""
    return np.asarray((np.abs(points) < (MIDDLE - 1) * voxel).all(axis=-1))


def voxel_keys(points: NDArray[np.floating], voxel: float) -> NDArray[np.int64]:
    """A number (N,) for the voxel of edge `voxel` m of each point (N, 3), by place: the same number, the same voxel.

    Raises ValueError where a point is no number or further than a million voxels from the origin.
    """
    cells = np.floor(points / voxel)
    if not (np.abs(cells) < MIDDLE).all():
        raise ValueError(f"a point lies further than {MIDDLE} voxels of {voxel} m from the origin: are they metres?")
    x, y, z = (cells.astype(np.int64) + MIDDLE).T
    return np.asarray((x << 2 * BITS) | (y << BITS) | z, np.int64)
