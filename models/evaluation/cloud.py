# SPDX-License-Identifier: Apache-2.0
"""How far a cloud is from the true one, both ways (as Azinovic et al., "Neural RGB-D Surface Reconstruction", CVPR
2022, and after them CUT3R measure it)."""

from __future__ import annotations

import numpy as np
import small_gicp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from perception_models.geometry.voxels import in_range, voxel_keys

Points = NDArray[np.floating]
VOXEL = 0.02  # m, in which one point counts, so that what was seen often weighs no more
NEIGHBOURS = 20  # of a point, to which its normal is fitted


def cloud_figures(found: Points, truth: Points, voxel: float = VOXEL) -> dict[str, float]:
    """accuracy_m, accuracy_median_m: distance of found points (N, 3) to the nearest true one (M, 3); completeness_m,
    completeness_median_m: of true ones to the nearest found; normal_consistency: mean |cosine| between the normals of
    nearest points, both ways. None where either cloud is empty."""
    found, truth = (thinned(np.asarray(points, np.float64), voxel) for points in (found, truth))
    if not len(found) or not len(truth):
        return {}
    there, back = cKDTree(truth).query(found), cKDTree(found).query(truth)
    normals, true_normals = _normals(found), _normals(truth)
    alike = [_alignment(normals, true_normals[there[1]]), _alignment(true_normals, normals[back[1]])]
    figures = {"normal_consistency": float(np.mean(alike))}
    for name, (distances, _) in (("accuracy", there), ("completeness", back)):
        figures |= {f"{name}_m": float(distances.mean()), f"{name}_median_m": float(np.median(distances))}
    return figures


def thinned(points: Points, voxel: float) -> Points:
    """The first point of each voxel; what lies too far away to be placed is left out."""
    placed = points[in_range(points, voxel)]
    _, first = np.unique(voxel_keys(placed, voxel), return_index=True)
    return placed[first]


def _normals(points: Points) -> Points:
    """Unit normals (N, 3), of either sign."""
    cloud = small_gicp.PointCloud(points)
    small_gicp.estimate_normals(cloud, num_neighbors=NEIGHBOURS)
    return np.asarray(cloud.normals()[:, :3])


def _alignment(normals: Points, others: Points) -> float:
    return float(np.abs(np.einsum("ni,ni->n", normals, others)).mean())
