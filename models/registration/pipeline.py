# SPDX-License-Identifier: Apache-2.0
"""The registrar that nodes, evaluation and tests call: two clouds in, the pose of one in the other out. No torch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.registration.consensus import MatchedPoints, propose, support
from perception_models.registration.learned import LearnedDescriptors
from perception_models.registration.matching import Correspondences, match
from perception_models.registration.parallel import each
from perception_models.registration.preprocess import Cloud, checked, prepare, spread
from perception_models.registration.refinement import refine, refine_roughly
from perception_models.registration.settings import SCALES, RegistrationSettings, settings_for
from perception_models.registration.validity import Evidence, covariance, doubt
from perception_models.registration.verification import fit
from perception_models.runtime import EngineInfo
from perception_models.runtime.onnxruntime_backend import default_threads

Matrix = npt.NDArray[np.float64]
Points = npt.NDArray[np.floating]
WEIGHTS = Path(__file__).parent / "weights"
CLASSICAL = "classical"


@dataclass(frozen=True)
class Registration:
    """The pose of the source in the target: transform (4, 4) source -> target, or identity where there is none.

    valid: whether it may be used; where not, `reason` says why. overlap: share of both clouds' points that meet.
    inliers: points that meet. covariance (6, 6) of x y z (m) and of the rotation (rad) about the target's axes.
    """

    transform: Matrix
    valid: bool
    overlap: float = 0.0
    inliers: int = 0
    covariance: Matrix = field(default_factory=lambda: np.diag(np.full(6, np.inf)))
    reason: str = ""


class Registrar:
    """Aligns clouds from nothing. Get one with `Registrar.load()`."""

    def __init__(
        self, learned: LearnedDescriptors | None = None, scale: str = "auto", threads: int | None = None
    ) -> None:
        self.learned = learned
        self.scale = scale
        self.threads = threads or default_threads()
        self.timing: dict[str, float] = {}

    @staticmethod
    def load(
        variant: str = CLASSICAL, backend: str = "auto", threads: int | None = None, scale: str = "auto"
    ) -> Registrar:
        """Load a variant: "classical", which needs no weights, a folder name under `weights/`, or a path to a folder.

        scale: "indoor", "lidar", or "auto", which takes the larger of the two clouds.
        """
        if scale != "auto" and scale not in SCALES:
            raise ValueError(f"scale is {scale!r}; expected auto, {', '.join(SCALES)}")
        if variant == CLASSICAL:
            return Registrar(None, scale, threads)
        named, folder = WEIGHTS / variant, Path(variant)
        weights = folder if folder.is_dir() and not named.is_dir() else named
        return Registrar(LearnedDescriptors.load(weights, backend, threads), scale, threads)

    @property
    def engine_info(self) -> EngineInfo | None:
        """Backend and precision that really run; None for the classical variant, which has no engine."""
        return self.learned.engine.info if self.learned else None

    def align(self, source: Points, target: Points) -> Registration:
        """Pose of source (N, 3) in target (M, 3), both in metres, each in a frame whose origin is where it was seen
        from (the sensor's). Raises ValueError for another shape or type."""
        clouds = checked(source), checked(target)
        settings = self._settings(*clouds)
        began = time.perf_counter()
        prepared = each(lambda points: prepare(points, settings), clouds, self.threads)
        elapsed = 1e3 * (time.perf_counter() - began)
        result = self.align_clouds(*prepared)
        self.timing = {"prepare": elapsed, **self.timing}
        return result

    def prepare(self, points: Points) -> Cloud:
        """A cloud (N, 3) that will be aligned more than once."""
        finite = checked(points)
        return prepare(finite, self._settings(finite), threads=self.threads)

    def align_clouds(self, source: Cloud, target: Cloud) -> Registration:
        """Pose of a prepared source in a prepared target. Raises ValueError where they were prepared differently."""
        if source.settings != target.settings:
            raise ValueError(
                "the clouds were prepared at different scales; load the registrar with scale='indoor' or 'lidar'"
            )
        settings = source.settings
        fewest = min(len(source), len(target))
        if fewest < settings.least_points:
            return _nothing(f"a cloud has {fewest} points {settings.voxel} m apart, expected {settings.least_points}")
        watch = Stopwatch()
        pairs = self.match(source, target)
        matched = MatchedPoints.of(source, target, pairs)
        watch.lap("match")
        hypotheses = propose(matched)
        watch.lap("consensus")
        candidates = promising(hypotheses, source, target)
        watch.lap("verify")
        result = self.best(candidates, source, target, matched)
        watch.lap("refine")
        self.timing = watch.laps
        return result

    def match(self, source: Cloud, target: Cloud) -> Correspondences:
        """The likeliest correspondences by the variant's descriptors."""
        if self.learned:
            described = self.learned.describe(source, target)
            return match(
                described.source, described.target, source.settings.correspondences, *described[2:], self.threads
            )
        scale = np.float32(1 / np.sqrt(source.settings.temperature))
        chosen = [spread(len(cloud), source.settings.matched_points) for cloud in (source, target)]
        first, second = (c.features[rows] * scale for c, rows in zip((source, target), chosen, strict=True))
        pairs = match(first, second, source.settings.correspondences, threads=self.threads)
        return replace(pairs, source=chosen[0][pairs.source], target=chosen[1][pairs.target])

    def best(self, candidates: Matrix, source: Cloud, target: Cloud, matched: MatchedPoints) -> Registration:
        """Refine the candidates (H, 4, 4), take the one that fits best, and judge it."""
        if not len(candidates):
            return _nothing("no correspondences agree")
        settings = source.settings
        refined = np.stack([refine_roughly(candidate, source, target) for candidate in candidates])
        best = int(np.argmax(fit(refined, source, target, settings.judged_points).score))
        final = refine(refined[best], source, target)
        fitted = fit(final.transform[None], source, target, settings.judged_points)
        agreed = float(support(final.transform[None], matched)[0])
        evidence = Evidence(float(fitted.overlap[0]), float(fitted.violation[0]), agreed, final)
        reason = doubt(evidence, settings)
        return Registration(final.transform, not reason, evidence.overlap, final.inliers, covariance(final), reason)

    def _settings(self, *clouds: Points) -> RegistrationSettings:
        """Those of the scale, or of the largest cloud."""
        chosen = [settings_for(points, self.scale) for points in clouds]
        return max(chosen, key=lambda settings: settings.voxel)

    def close(self) -> None:
        """Free the engine, if there is one."""
        if self.learned:
            self.learned.close()


def promising(hypotheses: Matrix, source: Cloud, target: Cloud) -> Matrix:
    """The hypotheses (H, 4, 4) that fit best, each other than those before it: they are worth a refinement."""
    if not len(hypotheses):
        return hypotheses
    settings = source.settings
    score = fit(hypotheses, source, target, settings.sampled_points).score
    ranked = hypotheses[np.argsort(-score, kind="stable")]
    places = _far_points(ranked, source)
    kept: list[int] = []
    for index, place in enumerate(places):
        moved = np.linalg.norm(places[kept] - place, axis=2).mean(axis=1)
        if np.all(moved > settings.distinct * settings.voxel):
            kept.append(index)
        if len(kept) == settings.refined_hypotheses:
            break
    return ranked[kept]


def _far_points(transforms: Matrix, cloud: Cloud) -> Matrix:
    """Where transforms (H, 4, 4) bring a few far points of the cloud: (H, 6, 3)."""
    extreme = np.concatenate([cloud.points.argmin(axis=0), cloud.points.argmax(axis=0)])
    turned = cloud.points[extreme] @ transforms[:, :3, :3].transpose(0, 2, 1)
    return np.asarray(turned + transforms[:, None, :3, 3])


def _nothing(reason: str) -> Registration:
    return Registration(np.eye(4), False, reason=reason)


class Stopwatch:
    """Milliseconds between laps, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Name what was done since the last lap."""
        now = time.perf_counter()
        self.laps[name] = 1e3 * (now - self._last)
        self._last = now
