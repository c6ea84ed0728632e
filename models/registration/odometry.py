# SPDX-License-Identifier: Apache-2.0
"""Scan to map at sensor rate: predict, straighten, align, check; a pose that fails its check is never given out.

A constant velocity predicts where a scan is taken, as in KISS-ICP (Vizzo et al., RA-L 2023). The ways to place it are
tried in the order of their cost until one holds: the fine voxels, the coarse voxels first, registration from nothing.
Where none does the sensor is lost, and every scan after that is tried the same way until one is found again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import small_gicp

from perception_models.geometry import se3
from perception_models.registration.deskew import Velocity, deskew, middle, motion, velocity_of
from perception_models.registration.local_map import Fit, GlobalRegistrar, LocalMap
from perception_models.registration.odometry_settings import LIDAR_ODOMETRY, OdometrySettings
from perception_models.registration.scan import Scan, scan_of, thinned

Floats = npt.NDArray[np.float32]


class Map(Protocol):
    """What a scan is aligned to: LocalMap, or GlobalMap."""

    def __len__(self) -> int:
        """Number of its voxels."""
        ...

    def fit(self, cloud: small_gicp.PointCloud, guess: se3.Matrix, from_afar: bool = False) -> Fit | None:
        """See VoxelMap.fit."""
        ...

    def candidates(self, points: Floats, near: se3.Matrix | None) -> Iterator[se3.Matrix]:
        """Poses that the points may have, found without a prediction; those around `near` first."""
        ...

    def add(self, cloud: small_gicp.PointCloud, points: Floats, pose: se3.Matrix) -> None:
        """Takes in a scan, thinned and whole, at a pose that was checked."""
        ...


@dataclass(frozen=True)
class OdometryStep:
    """Where a sensor was. pose (4, 4): sensor -> odom, or map, at the stamp of the scan. velocity (6,): along and
    about the sensor's own axes. covariance (6, 6): of x y z and of the rotation about the axes of odom, against the
    map, without the drift of the map. matched: share of the scan's points that the map explains.

    Where it is not valid, `reason` says why, and pose, velocity and covariance are NaN.
    """

    pose: se3.Matrix
    valid: bool
    covariance: npt.NDArray[np.float64]
    velocity: Velocity
    matched: float = 0.0
    recovered: bool = False  # found from nothing
    reason: str = ""


class _Sweep(NamedTuple):
    """A scan straightened by a velocity: all its points, and the few that stand for them."""

    points: Floats
    cloud: small_gicp.PointCloud
    velocity: Velocity


@dataclass(frozen=True)
class _Attempt:
    """One way to place a sweep; it holds where it has a fit and no reason against it."""

    sweep: _Sweep
    fit: Fit | None
    recovered: bool
    reason: str


@dataclass(frozen=True)
class _Track:
    """Pose and velocity of the sensor in the middle of the last scan that was placed, and when that was."""

    pose: se3.Matrix
    time: float
    velocity: Velocity

    def predict(self, now: float, memory: float) -> tuple[se3.Matrix, Velocity]:
        """Pose and velocity at a time; an old velocity says nothing."""
        velocity = self.velocity if now - self.time <= memory else np.zeros(6)
        return self.pose @ motion(velocity, now - self.time), velocity


class Odometry:
    """The pose of a sensor from its scans; `reset` starts another run. Not safe for two threads."""

    def __init__(
        self,
        settings: OdometrySettings = LIDAR_ODOMETRY,
        registrar: GlobalRegistrar | None = None,
        map: Map | None = None,
    ) -> None:
        """A `map` that is given stands for good and gives the frame of the poses; without it the first scan does."""
        self.settings, self._registrar, self._given = settings, registrar, map
        self.timing: dict[str, float] = {}
        self.reset()

    def reset(self) -> None:
        """Forgets where the sensor is, and the map unless it was given."""
        self.map: Map = LocalMap(self.settings, self._registrar) if self._given is None else self._given
        self._track: _Track | None = None
        self._sweep: _Sweep | None = None
        self._first: tuple[Scan, float] | None = None  # until the second one tells how the sensor moved meanwhile
        self._stamp = -np.inf

    @property
    def aligned(self) -> Floats:
        """The last scan that was placed (N, 3) float32 m, straightened, in the frame of the poses; empty before."""
        if self._sweep is None or self._track is None:
            return np.zeros((0, 3), np.float32)
        return np.asarray(se3.apply(self._track.pose, self._sweep.points), np.float32)

    def update(
        self,
        points: npt.NDArray[np.floating],
        times: npt.NDArray[np.floating] | None = None,
        stamp: float | None = None,
    ) -> OdometryStep:
        """Place the next scan: points (N, 3) m in the sensor's frame, of which those that are not finite are left out,
        `times` (N,) s of each since the stamp, `stamp` in s; without stamps scans follow each other by `period`.

        Raises ValueError for other shapes, or a stamp that is not after the one before.
        """
        began = time.perf_counter()
        stamp = self._next_stamp() if stamp is None else stamp
        if not stamp > self._stamp:
            raise ValueError(f"the stamp {stamp} s is not after the last one, {self._stamp} s; reset for another run")
        scan = scan_of(points, times, self.settings)
        self._stamp = stamp
        step = self._place(scan, stamp)
        if self._first is not None and step.velocity.any() and step.valid:
            self._begin_again(*self._first, step.velocity)
            step = self._place(scan, stamp)
        self.timing = {"inference": (time.perf_counter() - began) * 1e3}
        return step

    def _next_stamp(self) -> float:
        return self._stamp + self.settings.period if np.isfinite(self._stamp) else 0.0

    def _place(self, scan: Scan, stamp: float) -> OdometryStep:
        if len(scan.points) < self.settings.min_points:
            return _no_step(f"the cloud has {len(scan.points)} points in range; {self.settings.min_points} are needed")
        now, best = stamp + middle(scan.times), _no_step("the map has no place that looks like the scan")
        for attempt in self._attempts(scan, now):
            if attempt.fit is not None and not attempt.reason:
                return self._accept(attempt.sweep, attempt.fit, attempt.recovered, now, stamp)
            matched = attempt.fit.matched if attempt.fit else 0.0
            if matched >= best.matched:
                best = _no_step(attempt.reason, matched)
        return best

    def _begin_again(self, first: Scan, stamp: float, velocity: Velocity) -> None:
        """Make the map anew of the first scan, straightened; where the sensor was at its stamp stays the origin."""
        sweep, time_ = self._straighten(first, velocity), middle(first.times)
        self._track = _Track(motion(velocity, time_), stamp + time_, velocity)
        self.map, self._first = LocalMap(self.settings, self._registrar), None
        self.map.add(sweep.cloud, sweep.points, self._track.pose)

    def _attempts(self, scan: Scan, now: float) -> Iterator[_Attempt]:
        """The ways to place a scan, each made only when the one before did not hold."""
        track = self._track
        guess, velocity = track.predict(now, self.settings.memory) if track else (np.eye(4), np.zeros(6))
        sweep = self._straighten(scan, velocity)
        if not len(self.map):
            self._first = None if scan.times is None else (scan, now - middle(scan.times))
            yield _Attempt(sweep, Fit(guess, 1.0, np.inf, np.zeros((6, 6))), False, "")
            return
        if track is not None:
            for from_afar in (False, True):
                yield self._sharpened(self._try(sweep, guess, now, from_afar), scan, track, now)
        for guess in self.map.candidates(sweep.points, track.pose if track else None):
            yield self._try(sweep, guess, now, from_afar=True, recovers=True)

    def _straighten(self, scan: Scan, velocity: Velocity) -> _Sweep:
        points = deskew(scan.points, scan.times, velocity)
        return _Sweep(points, thinned(points, self.settings), velocity)

    def _sharpened(self, attempt: _Attempt, scan: Scan, track: _Track, now: float) -> _Attempt:
        """The attempt again with the sweep straightened by the velocity found, where that is another than assumed."""
        if attempt.reason or attempt.fit is None or scan.times is None:
            return attempt
        found = velocity_of(se3.inverse(track.pose) @ attempt.fit.transform, now - track.time)
        blur = np.abs(found - attempt.sweep.velocity) * float(np.ptp(scan.times))
        if blur[:3].max() < self.settings.spacing / 5 and blur[3:].max() < self.settings.turn / 2:
            return attempt
        return self._try(self._straighten(scan, found), attempt.fit.transform, now)

    def _try(
        self, sweep: _Sweep, guess: se3.Matrix, now: float, from_afar: bool = False, recovers: bool = False
    ) -> _Attempt:
        fit = self.map.fit(sweep.cloud, guess, from_afar)
        return _Attempt(sweep, fit, recovers, self._objection(fit, now, recovers))

    def _objection(self, fit: Fit | None, now: float, recovers: bool) -> str:
        """What speaks against a fit; empty where nothing does."""
        limits, track = self.settings, self._track
        if fit is None:
            return "no point of the scan lies in the map: the sensor is elsewhere, or moved too far since the last scan"
        if fit.matched < limits.min_matched:
            return f"the map explains {fit.matched:.0%} of the scan; {limits.min_matched:.0%} are needed"
        if fit.constraint < limits.min_constraint:
            return "the surroundings do not hold the scan in every direction: a bare plane, or a corridor without end"
        if track is not None and not recovers:
            velocity = velocity_of(se3.inverse(track.pose) @ fit.transform, now - track.time)
            speed, turn = np.linalg.norm(velocity[:3]), np.linalg.norm(velocity[3:])
            if speed > limits.max_speed or turn > limits.max_turn:
                return f"the pose would mean {speed:.1f} m/s and {turn:.1f} rad/s; check the stamps"
        return ""

    def _accept(self, sweep: _Sweep, fit: Fit, recovered: bool, now: float, stamp: float) -> OdometryStep:
        """The pose at the stamp lies between this sweep's middle and the last one's, or a little beyond."""
        pose, velocity, track = fit.transform, np.zeros(6), self._track
        at_stamp = pose
        if track is not None and now - track.time <= self.settings.memory and not recovered:
            velocity = velocity_of(se3.inverse(track.pose) @ pose, now - track.time)
            at_stamp = track.pose @ motion(velocity, stamp - track.time)
        self.map.add(sweep.cloud, sweep.points, pose)
        self._track, self._sweep = _Track(pose, now, velocity), sweep
        return OdometryStep(at_stamp, True, fit.covariance, velocity, fit.matched, recovered)


def _no_step(reason: str, matched: float = 0.0) -> OdometryStep:
    nothing = np.full((6, 6), np.nan)
    return OdometryStep(nothing[:4, :4], False, nothing, nothing[0], matched, reason=reason)
