# SPDX-License-Identifier: Apache-2.0
"""What is measured of reconstruction: depth, the camera's path, the cloud, and time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perception_models.evaluation.cloud import cloud_figures
from perception_models.evaluation.depth import depth_figures, judged
from perception_models.evaluation.latency import percentiles
from perception_models.evaluation.odometry import absolute_error, as_large, given, path_length, relative_errors
from perception_models.geometry.cameras import Matrix
from perception_models.geometry.similarity import fit
from perception_nodes.judges.reconstruction_methods import Found
from perception_nodes.judges.reconstruction_scenes import Truth

FEWEST = 3  # poses that make a path, and views that make a cloud


def figures(found: Found, truths: Sequence[Truth]) -> dict[str, float]:
    """All figures of what a method found. Those that it gives nothing for are left out."""
    pairs = [judged(depth, truth.depth, truth.known) for depth, truth in zip(found.depths, truths, strict=True)]
    measured = depth_figures(pairs)
    if not found.metric:
        measured = {name: value for name, value in measured.items() if not name.endswith("_metric")}
    measured |= pose_figures(np.array(found.poses), np.array([truth.pose for truth in truths]))
    if found.views:
        measured |= _cloud(found, truths) | _time(found.milliseconds)
        measured |= {"worlds": float(found.worlds), "invalid": float(found.invalid)}
    return measured


def pose_figures(estimate: Matrix, truth: Matrix) -> dict[str, float]:
    """ATE in percent of the path, after one scale and as it is (`_metric`), and the mean error of the motion from image
    to image, after one scale. Both (F, 4, 4), NaN where there is no pose."""
    if (given(estimate) & given(truth)).sum() < FEWEST:
        return {}
    percent = 100 / max(path_length(truth), 1e-9)
    metres, radians = relative_errors(as_large(estimate, truth), truth, 1).mean(axis=0).tolist()
    return {
        "ate_percent": percent * absolute_error(estimate, truth, scaled=True),
        "ate_metric_percent": percent * absolute_error(estimate, truth),
        "rpe_cm": 100 * metres,
        "rpe_deg": float(np.degrees(radians)),
    }


def _cloud(found: Found, truths: Sequence[Truth]) -> dict[str, float]:
    """Of all views in one world, moved and scaled onto the truth pixel by pixel; single images make no cloud."""
    placed = zip(found.views, found.poses, truths, strict=True)
    pairs = [
        (view.points[mask], truth.points[mask])
        for view, pose, truth in placed
        if np.isfinite(pose).all() and (mask := view.mask & truth.known).any()
    ]
    if len(pairs) < FEWEST:
        return {}
    points, true = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return cloud_figures(fit(points, true, scaled=True).apply(points), true)


def _time(milliseconds: Sequence[float]) -> dict[str, float]:
    """The first image pays for what is set up on first use, and does not count."""
    found = percentiles(milliseconds[1:])
    return {f"{name}_ms": found[name] for name in ("p50", "p95") if name in found}
