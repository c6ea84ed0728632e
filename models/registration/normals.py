# SPDX-License-Identifier: Apache-2.0
"""Surface normals that point to where the cloud was seen from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import small_gicp

Floats = npt.NDArray[np.float32]


def estimate_normals(
    points: Floats, neighbours: int, viewpoint: npt.ArrayLike = (0.0, 0.0, 0.0), threads: int = 1
) -> Floats:
    """Unit normals (N, 3) of points (N, 3), each from the plane through its neighbours, turned towards the viewpoint
    (3,); zero where there are fewer than five neighbours."""
    cloud = small_gicp.PointCloud(points.astype(np.float64))
    small_gicp.estimate_normals(cloud, num_neighbors=neighbours, num_threads=threads)
    normals: Floats = cloud.normals()[:, :3].astype(np.float32)
    away = np.einsum("ni,ni->n", normals, points - np.asarray(viewpoint, np.float32)) > 0
    normals[away] *= -1
    return normals
