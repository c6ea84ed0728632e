# SPDX-License-Identifier: Apache-2.0
"""A map that a scan is aligned to: Gaussian voxels, fine and coarse, and whole scans for when both fail.

Scans are matched by VGICP (Koide et al., "Voxelized GICP for fast and accurate 3D point cloud registration", ICRA
2021) of small_gicp: a point is matched to the voxel it falls into, distribution to distribution.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import small_gicp

from perception_models.geometry import se3
from perception_models.registration.odometry_settings import OdometrySettings

Floats = npt.NDArray[np.float32]

# Errors of neighbouring points go together, so fewer count than are matched. With this factor the covariance agrees
# with what steps are off on simulated drives (test_registration_odometry).
CORRELATION = 30.0


class Registered(Protocol):
    """What a global registration answers."""

    @property
    def transform(self) -> se3.Matrix:
        """Pose (4, 4) source -> target."""
        ...

    @property
    def valid(self) -> bool:
        """Whether the two overlap and fit."""
        ...


class GlobalRegistrar(Protocol):
    """Aligns clouds from nothing: perception_models.registration.Registrar."""

    def align(self, source: Floats, target: Floats) -> Registered:
        """Pose of the source (N, 3) in the target (M, 3), both in metres, each seen from its origin."""
        ...


@dataclass(frozen=True)
class Fit:
    """A scan at its place: transform (4, 4) scan -> map; matched: share of its points with a voxel near enough.

    constraint: stiffness against the weakest translation, a matched point. covariance (6, 6) of x y z (m) and of
    the rotation (rad) about the axes of the map.
    """

    transform: se3.Matrix
    matched: float
    constraint: float
    covariance: npt.NDArray[np.float64]


class VoxelMap:
    """Two grids of Gaussian voxels in the same frame; `fit` tries the fine one alone, or the coarse one before it."""

    def __init__(self, settings: OdometrySettings) -> None:
        self._settings = settings
        self._fine = small_gicp.GaussianVoxelMap(settings.voxel)
        self._coarse = small_gicp.GaussianVoxelMap(settings.coarse_voxel)
        for grid in (self._fine, self._coarse):
            grid.set_lru(settings.horizon, 10)

    def __len__(self) -> int:
        return int(self._fine.size())

    @property
    def points(self) -> Floats:
        """Means of the voxels (V, 3), float32 m, in the map's frame."""
        return np.asarray(self._fine.voxel_points()[:, :3], np.float32)

    def insert(self, cloud: small_gicp.PointCloud, pose: se3.Matrix) -> None:
        """Adds a cloud with covariances at a pose (4, 4), and forgets voxels that were not seen for long."""
        self._fine.insert(cloud, pose)
        self._coarse.insert(cloud, pose)

    def fit(self, cloud: small_gicp.PointCloud, guess: se3.Matrix, from_afar: bool = False) -> Fit | None:
        """The cloud with covariances aligned from a guess (4, 4), `from_afar` by way of the coarse voxels; None where
        nothing matches. The map must not be empty: small_gicp reads beyond its end there."""
        if from_afar:
            guess = self._align(self._coarse, cloud, guess, self._settings.coarse_voxel).T_target_source
        result = self._align(self._fine, cloud, guess, self._settings.reach)
        if not result.num_inliers or not np.isfinite(result.T_target_source).all():
            return None
        return _fit(result, cloud.size())

    def _align(
        self, grid: small_gicp.GaussianVoxelMap, cloud: small_gicp.PointCloud, guess: se3.Matrix, reach: float
    ) -> small_gicp.RegistrationResult:
        return small_gicp.align(
            grid,
            cloud,
            init_T_target_source=guess,
            max_correspondence_distance=reach,
            num_threads=self._settings.threads,
        )


class LocalMap(VoxelMap):
    """The surroundings of the last metres: grows with each scan, and its size stays bounded."""

    def __init__(self, settings: OdometrySettings, registrar: GlobalRegistrar | None = None) -> None:
        super().__init__(settings)
        self._registrar = registrar
        self._keyframes: deque[tuple[Floats, se3.Matrix]] = deque(maxlen=settings.keyframes)
        self._last: se3.Matrix | None = None

    def add(self, cloud: small_gicp.PointCloud, points: Floats, pose: se3.Matrix) -> None:
        """Adds a scan, thinned and whole, unless the sensor hardly moved, so that a robot at rest does not drift."""
        limits = self._settings
        if self._last is not None and not _moved(self._last, pose, limits.step, limits.turn):
            return
        self.insert(cloud, pose)
        self._last = pose
        if not self._keyframes or _moved(self._keyframes[-1][1], pose, limits.keyframe_step, np.pi / 6):
            self._keyframes.append((points, pose))

    def candidates(self, points: Floats, near: se3.Matrix | None) -> Iterator[se3.Matrix]:
        """Poses (4, 4) that points (N, 3) may have, from nothing but the scans that were kept whole."""
        if self._registrar is not None:
            for target, pose in reversed(self._keyframes):
                found = self._registrar.align(points, target)
                if found.valid:
                    yield pose @ found.transform


def _moved(start: se3.Matrix, end: se3.Matrix, step: float, turn: float) -> bool:
    change = se3.inverse(start) @ end
    return bool(np.linalg.norm(change[:3, 3]) > step) or se3.rotation_angle(change) > turn


def _fit(result: small_gicp.RegistrationResult, count: int) -> Fit:
    """small_gicp's system is in rotation, then translation, of the scan's own frame."""
    hessian = np.asarray(result.H)
    turning, sliding, between = hessian[:3, :3], hessian[3:, 3:], hessian[3:, :3]
    stiffness = sliding - between @ np.linalg.solve(turning + 1e-9 * np.eye(3), between.T)
    constraint = float(np.linalg.eigvalsh(stiffness)[0]) / result.num_inliers
    variance = CORRELATION * 2 * result.error / result.num_inliers
    own = np.linalg.inv(hessian + 1e-9 * np.eye(6))[np.ix_([3, 4, 5, 0, 1, 2], [3, 4, 5, 0, 1, 2])] * variance
    axes = np.kron(np.eye(2), result.T_target_source[:3, :3])
    return Fit(np.asarray(result.T_target_source), result.num_inliers / count, constraint, axes @ own @ axes.T)
