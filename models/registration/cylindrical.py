# SPDX-License-Identifier: Apache-2.0
"""Sweeps as images: each cell of a cylinder around the sensor holds its nearest point (RegFormer, ICCV 2023, 3.1).

Open in the published facts and decided here: rows are even steps of elevation from the top; columns go clockwise from
behind the sensor (x forward, y left); points above and below the image are left out. No torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_models.registration.preprocess import checked

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cylinder:
    """Size of the image and elevation in radians of its upper and lower edge; by default those of KITTI's sensor."""

    rows: int = 64
    columns: int = 1792
    top: float = math.radians(2.0)
    bottom: float = math.radians(-24.8)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for model.yaml."""
        return asdict(self)


KITTI = Cylinder()


def project(points: npt.NDArray[np.floating], cylinder: Cylinder = KITTI) -> Floats:
    """Points (N, 3) in metres in the sensor's frame -> image (rows, columns, 3): the nearest point of each cell, and
    zeros where there is none. Raises ValueError for another shape or type of points."""
    finite = checked(points)
    rows, columns = cells(finite, cylinder)
    distance = np.linalg.norm(finite, axis=1)
    seen = (rows >= 0) & (rows < cylinder.rows) & (distance > 0)
    far_first = np.flatnonzero(seen)[np.argsort(-distance[seen], kind="stable")]
    image = np.zeros((cylinder.rows, cylinder.columns, 3), np.float32)
    image[rows[far_first], columns[far_first]] = finite[far_first]  # the last one to be written stays
    return image


def cells(points: npt.NDArray[np.floating], cylinder: Cylinder = KITTI) -> tuple[Ints, Ints]:
    """Row and column (N,) of each point (N, 3); rows are outside of the image for points above and below it."""
    x, y, z = points.astype(np.float64).T
    elevation = np.arctan2(z, np.hypot(x, y))
    rows = np.floor((cylinder.top - elevation) / (cylinder.top - cylinder.bottom) * cylinder.rows)
    columns = np.floor((math.pi - np.arctan2(y, x)) / (2 * math.pi) * cylinder.columns)
    return rows.astype(np.int64), columns.astype(np.int64) % cylinder.columns
