# SPDX-License-Identifier: Apache-2.0
"""A map that stands: a scan is found in it from nothing, then followed as in odometry.

From nothing, the scan is registered to submaps: what of the map lies around a place from where it can be seen. Such
places are where the map was recorded from, or, where it does not say, above its ground.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import small_gicp
from scipy.spatial import cKDTree

from perception_models.geometry import se3
from perception_models.registration.cloud_files import read_cloud
from perception_models.registration.local_map import GlobalRegistrar, Registered, VoxelMap
from perception_models.registration.odometry_settings import OdometrySettings
from perception_models.registration.preprocess import thin_out
from perception_models.registration.scan import thinned

Floats = npt.NDArray[np.float32]

SENSOR_HEIGHT = 1.5  # m above the ground, of the places that a map without any is given


class PreparedRegistrar(GlobalRegistrar, Protocol):
    """A registrar that can prepare a submap once for all scans."""

    def prepare(self, points: Floats) -> Any:
        """Points (N, 3) seen from the origin, ready to be aligned."""
        ...

    def align_clouds(self, source: Any, target: Any) -> Registered:
        """Pose of a prepared source in a prepared target."""
        ...


class GlobalMap(VoxelMap):
    """Points (N, 3) m that stay as they are. Raises ValueError where there are too few of them to hold a scan."""

    def __init__(
        self,
        points: Floats,
        settings: OdometrySettings,
        registrar: PreparedRegistrar,
        viewpoints: Floats | None = None,
        tries: int = 6,
    ) -> None:
        """`viewpoints` (V, 3): from where the points were seen. `tries`: submaps looked into for one scan; the next
        scan goes on where this one stopped."""
        super().__init__(settings)
        cloud = thinned(np.asarray(points, np.float32), settings)
        if cloud.size() < settings.min_points:
            raise ValueError(f"the map has {cloud.size()} points {settings.spacing} m apart; expected many more")
        self.insert(cloud, np.eye(4))
        self.kept = thin_out(np.asarray(points, np.float32), settings.spacing / 2)
        self._registrar, self._tries, self._turn = registrar, tries, 0
        self._radius = settings.max_range / 2
        seen_from = viewpoints if viewpoints is not None and len(viewpoints) else _above_ground(self.kept, self._radius)
        self.viewpoints = spread_out(seen_from, self._radius / 4)
        self._tree = cKDTree(self.kept)
        self._submaps: dict[int, Any] = {}

    @classmethod
    def load(cls, path: Path, settings: OdometrySettings, registrar: PreparedRegistrar) -> GlobalMap:
        """The map of a .pcd, .ply or .npy file. Raises ValueError or FileNotFoundError."""
        file = read_cloud(path)
        return cls(file.points, settings, registrar, file.viewpoints)

    def add(self, cloud: small_gicp.PointCloud, points: Floats, pose: se3.Matrix) -> None:
        """A map that stands takes in nothing."""

    def candidates(self, points: Floats, near: se3.Matrix | None) -> Iterator[se3.Matrix]:
        """Poses (4, 4) that points (N, 3) may have, from submaps in turn; around `near` first, where it is known."""
        source = self._registrar.prepare(points)
        for index in self._order(near):
            place = np.asarray(self.viewpoints[index], np.float64)
            found = self._registrar.align_clouds(source, self._submap(index))
            if found.valid:
                yield se3.make(np.eye(3), place) @ found.transform

    def _order(self, near: se3.Matrix | None) -> Sequence[int]:
        """The two submaps nearest to the last pose, then the next of all in turn."""
        count = len(self.viewpoints)
        turn = [(self._turn + k) % count for k in range(min(self._tries, count))]
        self._turn = (self._turn + len(turn)) % count
        if near is None:
            return turn
        nearest = np.argsort(np.linalg.norm(self.viewpoints - near[:3, 3], axis=1))[:2].tolist()
        return [*nearest, *(index for index in turn if index not in nearest)]

    def _submap(self, index: int) -> Any:
        """What lies around a viewpoint, seen from it; prepared when it is first asked for."""
        if index not in self._submaps:
            place = self.viewpoints[index]
            around = self._tree.query_ball_point(place, self._radius, return_sorted=True)
            self._submaps[index] = self._registrar.prepare(self.kept[around] - place)
        return self._submaps[index]


def spread_out(places: Floats, apart: float) -> Floats:
    """The places (V, 3) of which none is nearer than `apart` m to one before it."""
    chosen: list[Floats] = []
    for place in places:
        if not chosen or np.linalg.norm(np.asarray(chosen) - place, axis=1).min() >= apart:
            chosen.append(place)
    return np.asarray(chosen, np.float32).reshape(-1, 3)


def _above_ground(points: Floats, radius: float) -> Floats:
    """A place (V, 3) in each square of half a radius, in the middle of its points and above its ground, which is where
    the lowest twentieth of them ends; first where points are densest, for there the recording was.
    """
    _, square = np.unique(np.floor(points[:, :2] / (radius / 2)), axis=0, return_inverse=True)
    groups = sorted((points[square.ravel() == index] for index in range(int(square.max()) + 1)), key=len, reverse=True)
    heights = [np.percentile(group[:, 2], 5) + SENSOR_HEIGHT for group in groups]
    places = [[*group[:, :2].mean(axis=0), height] for group, height in zip(groups, heights, strict=True)]
    return np.array(places, np.float32).reshape(-1, 3)
