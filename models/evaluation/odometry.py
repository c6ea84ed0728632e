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
from perception_models.geometry.similarity import fit

Poses = NDArray[np.float64]


def given(poses: Poses) -> NDArray[np.bool_]:
    """Which poses (F,) are there."""
    return np.asarray(np.isfinite(poses).all(axis=(1, 2)))


def path_length(poses: Poses) -> float:
    """Metres along a trajectory, over the poses that are there."""
    steps = np.diff(poses[given(poses), :3, 3], axis=0)
    return float(np.linalg.norm(steps, axis=1).sum())


def absolute_error(estimate: Poses, truth: Poses, scaled: bool = False) -> float:
    """ATE: root mean square of the distances (m) after the estimate was moved rigidly onto the truth by least squares;
    `scaled`: and made as large, for what has no metres of its own.

    Raises ValueError where the lengths differ or fewer than three poses are there in both.
    """
    moved, fixed = _common_places(estimate, truth)
    residual = fit(moved, fixed, scaled).apply(moved) - fixed
    return float(np.sqrt(np.mean(np.sum(residual**2, axis=1))))


def as_large(estimate: Poses, truth: Poses) -> Poses:
    """The estimate with the scale at which it fits the truth best. Raises ValueError as `absolute_error`."""
    larger = estimate.copy()
    larger[:, :3, 3] *= fit(*_common_places(estimate, truth), scaled=True).scale
    return larger


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


def places(poses: Poses, onto: Poses) -> NDArray[np.float64]:
    """Places (F, 3) of a trajectory, moved so that its first pose that both have is that of `onto`, for a picture."""
    both = np.flatnonzero(given(poses) & given(onto))
    if not len(both):
        return poses[:, :3, 3]
    move = onto[both[0]] @ se3.inverse(poses[both[0]])
    return np.asarray(se3.apply(move, poses[:, :3, 3]), np.float64)


def _difference(estimate: Poses, truth: Poses, start: int, end: int) -> se3.Matrix:
    """The estimated motion from scan to scan, seen from the true one."""
    true, found = (se3.inverse(poses[start]) @ poses[end] for poses in (truth, estimate))
    difference: se3.Matrix = se3.inverse(true) @ found
    return difference


def _common_places(estimate: Poses, truth: Poses) -> tuple[Poses, Poses]:
    """Places (K, 3) of the poses that are there in both. Raises ValueError where those are fewer than three."""
    _check_pair(estimate, truth)
    both = given(estimate) & given(truth)
    if both.sum() < 3:
        raise ValueError(f"{both.sum()} poses are in both trajectories; an absolute error needs three")
    return estimate[both, :3, 3], truth[both, :3, 3]


def _check_pair(estimate: Poses, truth: Poses) -> None:
    if estimate.shape != truth.shape or truth.shape[1:] != (4, 4):
        raise ValueError(f"trajectories of shapes {estimate.shape} and {truth.shape}; expected (F, 4, 4) twice")
