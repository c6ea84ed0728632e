# SPDX-License-Identifier: Apache-2.0
"""Ways to align two fragments from nothing measured side by side: ours, ours with a part taken out, ours with a
network, and what Open3D and small_gicp offer. Baselines are imported when they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perception_models.registration.consensus import MatchedPoints
from perception_models.registration.matching import Correspondences
from perception_models.registration.pipeline import Registrar, Registration
from perception_models.registration.preprocess import Cloud, prepare, thin_out
from perception_models.registration.settings import INDOOR, RegistrationSettings

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

ITERATIONS = 50_000  # of RANSAC


@dataclass(frozen=True)
class Answer:
    """The transform (4, 4) source -> target, and whether it is called valid."""

    transform: Matrix
    valid: bool


class Method(Protocol):
    """Prepares a fragment (N, 3) once, and aligns two that were prepared."""

    def prepare(self, points: Floats) -> Any:
        """The cloud as `align` wants it."""

    def align(self, source: Any, target: Any) -> Answer:
        """The pose of the source in the target."""

    def matches(self, source: Any, target: Any) -> tuple[Floats, Floats]:
        """The corresponding points (K, 3) that it starts from; none where it shows none."""


class Unshown:
    """A method that does not show its correspondences."""

    def matches(self, source: Any, target: Any) -> tuple[Floats, Floats]:
        """None."""
        return np.empty((0, 3), np.float32), np.empty((0, 3), np.float32)


class Ours:
    """A registrar with settings of its own."""

    def __init__(self, registrar: Registrar, settings: RegistrationSettings = INDOOR) -> None:
        self._registrar, self._settings = registrar, settings

    def prepare(self, points: Floats) -> Cloud:
        """See `preprocess.prepare`; with all that a cloud makes when it is first needed, so that its time counts."""
        cloud = prepare(points, self._settings, threads=self._registrar.threads)
        for name in ("tree", "range_image", "gicp_cloud", "gicp_sample"):
            getattr(cloud, name)
        return cloud

    def align(self, source: Cloud, target: Cloud) -> Answer:
        """See `Registrar.align_clouds`."""
        found = self._registrar.align_clouds(source, target)
        return Answer(found.transform, found.valid)

    def matches(self, source: Cloud, target: Cloud) -> tuple[Floats, Floats]:
        """See `Registrar.match`."""
        pairs = self._registrar.match(source, target)
        return source.points[pairs.source], target.points[pairs.target]


class PlainHistograms(Ours):
    """Descriptors as histograms, not as square roots of them."""

    def prepare(self, points: Floats) -> Cloud:
        """With plain histograms of unit length."""
        cloud = super().prepare(points)
        plain = cloud.features**2
        return replace(cloud, features=plain / np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-9))


class NearestRegistrar(Registrar):
    """Matches each point to the nearest descriptor, the nearest pairs first, instead of by dual softmax."""

    def match(self, source: Cloud, target: Cloud) -> Correspondences:
        """The pairs with the highest cosine."""
        cosine = source.features @ target.features.T
        partner, best = cosine.argmax(axis=1), cosine.max(axis=1)
        order = np.argsort(-best, kind="stable")[: source.settings.correspondences]
        return Correspondences(order, partner[order], best[order])


class UnrefinedRegistrar(Registrar):
    """Takes the best candidate as it is."""

    def best(self, candidates: Matrix, source: Cloud, target: Cloud, matched: MatchedPoints) -> Registration:
        """The first, called valid."""
        return Registration(candidates[0] if len(candidates) else np.eye(4), bool(len(candidates)))


class Open3D(Unshown):
    """Open3D's descriptors with RANSAC, or with fast global registration (Zhou et al., ECCV 2016)."""

    def __init__(self, fast: bool, voxel: float = INDOOR.voxel) -> None:
        self._fast, self._voxel = fast, voxel

    def prepare(self, points: Floats) -> Any:
        """The thinned cloud with normals, and its FPFH; radii as its documentation recommends."""
        open3d: Any = import_module("open3d")
        voxel = self._voxel
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(thin_out(points, voxel).astype(float)))
        cloud.estimate_normals(open3d.geometry.KDTreeSearchParamHybrid(2 * voxel, 30))
        cloud.orient_normals_towards_camera_location(np.zeros(3))
        search = open3d.geometry.KDTreeSearchParamHybrid(5 * voxel, 100)
        return cloud, open3d.pipelines.registration.compute_fpfh_feature(cloud, search)

    def align(self, source: Any, target: Any) -> Answer:
        """Always called valid: it has no opinion."""
        open3d: Any = import_module("open3d")
        registration = open3d.pipelines.registration
        open3d.utility.random.seed(0)
        if self._fast:
            option = registration.FastGlobalRegistrationOption(maximum_correspondence_distance=self._voxel)
            found = registration.registration_fgr_based_on_feature_matching(*_both(source, target), option)
        else:
            reach = 1.5 * self._voxel
            estimation = registration.TransformationEstimationPointToPoint(False)
            converged = registration.RANSACConvergenceCriteria(ITERATIONS, 0.999)
            checks = [
                registration.CorrespondenceCheckerBasedOnEdgeLength(0.9),
                registration.CorrespondenceCheckerBasedOnDistance(reach),
            ]
            found = registration.registration_ransac_based_on_feature_matching(
                *_both(source, target), True, reach, estimation, 3, checks, converged
            )
        return Answer(np.array(found.transformation), True)


def _both(source: Any, target: Any) -> tuple[Any, Any, Any, Any]:
    return source[0], target[0], source[1], target[1]


class LocalOnly(Unshown):
    """small_gicp from the identity: what is reached without any global registration."""

    def prepare(self, points: Floats) -> Any:
        """The thinned cloud with covariances, and its tree."""
        import small_gicp

        return small_gicp.preprocess_points(points.astype(np.float64), INDOOR.voxel)

    def align(self, source: Any, target: Any) -> Answer:
        """Called valid where it says that it converged."""
        import small_gicp

        found = small_gicp.align(target[0], source[0], target[1], max_correspondence_distance=0.5)
        return Answer(np.array(found.T_target_source), bool(found.converged))


def methods(threads: int | None, networks: list[Path]) -> dict[str, Callable[[], Method]]:
    """Makers of all methods by name; `networks` are folders of weights."""

    def classical(**changed: Any) -> Callable[[], Method]:
        return lambda: Ours(Registrar(threads=threads), replace(INDOOR, **changed))

    found: dict[str, Callable[[], Method]] = {
        "small_gicp from identity": LocalOnly,
        "FPFH + FGR": lambda: Open3D(fast=True),
        "FPFH + RANSAC": lambda: Open3D(fast=False),
        "classical": classical(),
        "- square root": lambda: PlainHistograms(Registrar(threads=threads)),
        "- second radius": classical(feature_radii=INDOOR.feature_radii[-1:]),
        "- dual softmax": lambda: Ours(NearestRegistrar(threads=threads)),
        "- normals in consensus": classical(normal_tolerance=np.pi),
        "- several candidates": classical(refined_hypotheses=1),
        "- free space": classical(violation_weight=0.0),
        "- refinement": lambda: Ours(UnrefinedRegistrar(threads=threads)),
    }
    for folder in networks:
        found[folder.name] = _learned(folder, threads)
    return found


def _learned(folder: Path, threads: int | None) -> Callable[[], Method]:
    return lambda: Ours(Registrar.load(str(folder), threads=threads, scale="indoor"))
