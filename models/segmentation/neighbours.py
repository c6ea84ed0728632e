# SPDX-License-Identifier: Apache-2.0
"""The graph of nearest neighbours of a cloud, and the normals that follow from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import small_gicp

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]


def neighbour_edges(points: Floats, neighbours: int, reach: float, threads: int = 1) -> Indices:
    """Edges (2, E), each once, from every point (N, 3) to its nearest ones within `reach` m."""
    count = min(neighbours + 1, len(points))
    if count < 2:
        return np.empty((2, 0), np.int32)
    places = points.astype(np.float64)
    tree = small_gicp.KdTree(places, num_threads=threads)
    found, squares = tree.batch_knn_search(places, count, num_threads=threads)
    other, squares = np.asarray(found).astype(np.int32), np.asarray(squares, np.float32)
    one = np.arange(len(points), dtype=np.int32)[:, None]
    # Where both ends found an edge, the lower index keeps it; a single one is kept by whoever found it.
    kept = (other > one) | ((other < one) & (squares > squares[other, -1]))
    chosen = np.flatnonzero(kept & (squares < np.float32(reach**2)))
    return np.stack([(chosen // count).astype(np.int32), other.ravel()[chosen]])


def estimate_normals(points: Floats, neighbours: int, viewpoints: npt.ArrayLike, threads: int = 1) -> Floats:
    """Unit normals (N, 3) of points (N, 3), turned towards a viewpoint (3,), or towards one of each point (N, 3)."""
    cloud = small_gicp.PointCloud(points.astype(np.float64))
    small_gicp.estimate_normals(cloud, num_neighbors=neighbours, num_threads=threads)
    normals: Floats = cloud.normals()[:, :3].astype(np.float32)
    normals[np.einsum("ni,ni->n", normals, points - np.asarray(viewpoints, np.float32)) > 0] *= -1
    return normals
