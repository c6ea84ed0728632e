# SPDX-License-Identifier: Apache-2.0
"""A cloud made ready to be aligned: thinned to one point a voxel, with normals and descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import small_gicp
from scipy.spatial import cKDTree

from perception_models.registration.fpfh import describe
from perception_models.registration.normals import estimate_normals
from perception_models.registration.settings import RegistrationSettings
from perception_models.registration.visibility import RangeImage

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cloud:
    """points (N, 3) float32 m, normals (N, 3) float32 of unit length towards the viewpoint, features (N, F) float32 of
    unit length, the settings they were made with, and the viewpoint (3,) m."""

    points: Floats
    normals: Floats
    features: Floats
    settings: RegistrationSettings
    viewpoint: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def tree(self) -> cKDTree:
        """Nearest neighbours among the points."""
        return cKDTree(self.points)

    @cached_property
    def range_image(self) -> RangeImage:
        """What was seen from the viewpoint."""
        return RangeImage(self.points, self.viewpoint)

    @cached_property
    def gicp_cloud(self) -> small_gicp.PointCloud:
        """The points with normals, as small_gicp wants them."""
        cloud = small_gicp.PointCloud(self.points.astype(np.float64))
        small_gicp.estimate_normals(cloud, self.gicp_tree, self.settings.normal_neighbours)
        return cloud

    @cached_property
    def gicp_sample(self) -> small_gicp.PointCloud:
        """Some of the points, spread over the cloud: enough to refine a candidate in a fraction of the time."""
        return small_gicp.PointCloud(self.points[spread(len(self), self.settings.refining_points)].astype(np.float64))

    @cached_property
    def gicp_tree(self) -> small_gicp.KdTree:
        """Nearest neighbours among the points, as small_gicp wants them."""
        return small_gicp.KdTree(self.points.astype(np.float64))


def prepare(
    points: npt.NDArray[np.floating],
    settings: RegistrationSettings,
    viewpoint: npt.ArrayLike = (0.0, 0.0, 0.0),
    threads: int = 1,
) -> Cloud:
    """Prepare points (N, 3) in metres, of any density; non-finite ones are left out.

    viewpoint (3,) is where the cloud was seen from: the sensor's place, which is the origin of a scan in the sensor's
    frame. Normals are turned towards it, so both clouds of a pair need their own. Raises ValueError for another shape.
    """
    thin = thin_out(checked(points), settings.voxel)
    normals = estimate_normals(thin, settings.normal_neighbours, viewpoint, threads)
    kept = np.any(normals != 0, axis=1)  # a point without neighbours has no surface to describe
    thin, normals = thin[kept], normals[kept]
    radii = [radius * settings.voxel for radius in settings.feature_radii]
    x, y, z = np.asarray(viewpoint, float).tolist()
    return Cloud(thin, normals, describe(thin, normals, radii, threads), settings, (x, y, z))


def spread(count: int, most: int) -> npt.NDArray[np.intp]:
    """`most` of `count` indices, or all: a fixed random choice, because the order of the points follows the grid."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def checked(points: npt.NDArray[np.floating]) -> Floats:
    """The finite points (N, 3) as float32. Raises ValueError for another shape or type."""
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind != "f":
        got = f"{points.dtype} {points.shape}" if isinstance(points, np.ndarray) else type(points).__name__
        raise ValueError(f"points must be an array (N, 3) of float x y z in metres, got {got}")
    return np.asarray(points[np.isfinite(points).all(axis=1)], np.float32)


def thin_out(points: Floats, voxel: float) -> Floats:
    """The mean of the points (N, 3) in each voxel (m): (M, 3), in the order of the voxels."""
    if not len(points):
        return points
    return np.asarray(small_gicp.voxelgrid_sampling(points.astype(np.float64), voxel).points()[:, :3], np.float32)
