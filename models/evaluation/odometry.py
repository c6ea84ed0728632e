# SPDX-License-Identifier: Apache-2.0
"""How far a trajectory is from another: absolute and relative errors (Sturm et al., "A Benchmark for the Evaluation of
RGB-D SLAM Systems", IROS 2012, section IV), and where it ends.

A trajectory is (F, 4, 4) float64, sensor -> world, one pose a scan; a pose that holds NaN is one that was not given.
Each trajectory may have a world of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3

Poses = NDArray[np.float64]


def given(poses: Poses) -> NDArray[np.bool_]:
    """Which poses (F,) are there."""
    return np.asarray(np.isfinite(poses).all(axis=(1, 2)))


def path_length(poses: Poses) -> float:
    """Metres along a trajectory, over the poses that are there."""
    steps = np.diff(poses[given(poses), :3, 3], axis=0)
    return float(np.linalg.norm(steps, axis=1).sum())


def absolute_error(estimate: Poses, truth: Poses) -> float:
    """ATE: root mean square of the distances (m) after the estimate was moved rigidly onto the truth by least squares.

    Raises ValueError where the lengths differ or fewer than three poses are there in both.
    """
    _check_pair(estimate, truth)
    both = given(estimate) & given(truth)
    if both.sum() < 3:
        raise ValueError(f"{both.sum()} poses are in both trajectories; an absolute error needs three")
    moved, fixed = estimate[both, :3, 3], truth[both, :3, 3]
    rotation = se3.nearest_rotation((fixed - fixed.mean(axis=0)).T @ (moved - moved.mean(axis=0)))
    residual = (moved - moved.mean(axis=0)) @ rotation.T - (fixed - fixed.mean(axis=0))
    return float(np.sqrt(np.mean(np.sum(residual**2, axis=1))))


def relative_errors(estimate: Poses, truth: Poses, frames: int = 10) -> NDArray[np.float64]:
    """Errors (K, 2) of the motion over `frames` scans, metres and radians, wherever both ends are there in both.

    Raises ValueError where the lengths differ or no pair of scans is that far apart.
    """
    _check_pair(estimate, truth)
    if not 0 < frames < len(truth):
        raise ValueError(f"{len(truth)} poses hold no motion over {frames} frames")
    both = given(estimate) & given(truth)
    starts = np.flatnonzero(both[:-frames] & both[frames:]).tolist()
    found = [_difference(estimate, truth, start, start + frames) for start in starts]
    return np.array([(np.linalg.norm(e[:3, 3]), se3.rotation_angle(e)) for e in found]).reshape(-1, 2)


def end_point_error(estimate: Poses, truth: Poses) -> float:
    """Distance (m) of the last poses, seen from the first ones, of the scans that have one in both trajectories."""
    _check_pair(estimate, truth)
    both = np.flatnonzero(given(estimate) & given(truth))
    if len(both) < 2:
        raise ValueError("an end point needs two poses that are in both trajectories")
    return float(np.linalg.norm(_difference(estimate, truth, int(both[0]), int(both[-1]))[:3, 3]))


def summary(estimate: Poses, truth: Poses, frames: int = 10) -> dict[str, float]:
    """Figures by name: share of scans with a pose, ate_m, path_m, end_percent of the path, and of the motion over
    `frames` scans the mean and the 95th percentile of its errors in m and degrees."""
    figures = {"valid": float(given(estimate).mean()), "path_m": path_length(truth)}
    if given(estimate).sum() < 3:
        return figures
    figures["ate_m"] = absolute_error(estimate, truth)
    figures["end_percent"] = 100 * end_point_error(estimate, truth) / max(figures["path_m"], 1e-9)
    errors = relative_errors(estimate, truth, frames) * [1, np.degrees(1)]
    if len(errors):
        for name, (metres, degrees) in (("mean", errors.mean(axis=0)), ("p95", np.percentile(errors, 95, axis=0))):
            figures |= {f"relative_{name}_m": float(metres), f"relative_{name}_deg": float(degrees)}
    return figures


def _difference(estimate: Poses, truth: Poses, start: int, end: int) -> se3.Matrix:
    """The estimated motion from scan to scan, seen from the true one."""
    true, found = (se3.inverse(poses[start]) @ poses[end] for poses in (truth, estimate))
    difference: se3.Matrix = se3.inverse(true) @ found
    return difference


def _check_pair(estimate: Poses, truth: Poses) -> None:
    if estimate.shape != truth.shape or truth.shape[1:] != (4, 4):
        raise ValueError(f"trajectories of shapes {estimate.shape} and {truth.shape}; expected (F, 4, 4) twice")
