# SPDX-License-Identifier: Apache-2.0
"""How accurate a map is, told by views that were left out of one like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix
from perception_models.relocalization.fix import Fix, find
from perception_models.relocalization.landmarks import fuse
from perception_models.relocalization.matching import Query
from perception_models.relocalization.settings import FixSettings, MapSettings
from perception_models.relocalization.tracking import track
from perception_models.relocalization.views import View

EVERY = 5
QUERIES = 40
MIN_VIEWS = 10


def held_out_accuracy(views: Sequence[View], settings: MapSettings, fix_settings: FixSettings) -> dict[str, float]:
    """Build from four of five views, find the fifth ones (at most QUERIES of them) -> median_cm, median_deg, valid
    (share of queries), queries, covariance_scale: how much covariances must grow to be true. Empty for few views."""
    if len(views) < MIN_VIEWS:
        return {}
    kept = [view for number, view in enumerate(views) if number % EVERY != EVERY - 1]
    left_out = views[EVERY - 1 :: EVERY]
    left_out = left_out[:: -(-len(left_out) // QUERIES)]
    landmarks = fuse(kept, track(kept, settings), settings)
    fixes = [find(Query(view.features, view.camera_matrix, view.size), landmarks, fix_settings) for view in left_out]
    pairs = [(fix, view.pose) for fix, view in zip(fixes, left_out, strict=True) if fix.valid]
    figures = {"valid": len(pairs) / len(left_out), "queries": float(len(left_out))}
    return {**figures, **_errors(pairs)} if pairs else figures


def _errors(pairs: Sequence[tuple[Fix, Matrix]]) -> dict[str, float]:
    metres = [float(np.linalg.norm(fix.pose[:3, 3] - truth[:3, 3])) for fix, truth in pairs]
    radians = [se3.rotation_angle(se3.inverse(truth) @ fix.pose) for fix, truth in pairs]
    # For a true covariance the squared Mahalanobis distance of 6 coordinates is 6 on average; the median is robust.
    scales = [_mahalanobis(fix, truth) / 5.35 for fix, truth in pairs]
    return {
        "median_cm": 100 * float(np.median(metres)),
        "median_deg": float(np.degrees(np.median(radians))),
        "covariance_scale": max(float(np.median(scales)), 1.0),
    }


def _mahalanobis(fix: Fix, truth: Matrix) -> float:
    """Squared distance of a fix from the truth, in units of its covariance."""
    turn = fix.pose[:3, :3] @ truth[:3, :3].T
    rotation = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    error = np.concatenate([fix.pose[:3, 3] - truth[:3, 3], rotation])
    return float(error @ np.linalg.pinv(fix.covariance) @ error)
