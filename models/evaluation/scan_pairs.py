# SPDX-License-Identifier: Apache-2.0
"""How often scans are aligned from nothing, by the distance between the places where they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_models.geometry import se3

TRANSLATION, ROTATION = 0.6, 1.5  # m, deg; a larger error is no success
BANDS = (0.0, 2.5, 5.0, 7.5, 10.0, np.inf)  # m between the sensors


@dataclass(frozen=True)
class ScanOutcome:
    """distance (m) between the sensors, errors of translation (m) and rotation (deg), whether the answer was called
    valid, and the milliseconds that it took."""

    distance: float
    translation: float
    rotation: float
    valid: bool
    milliseconds: float

    @property
    def is_right(self) -> bool:
        """Whether the pose is near enough to the true one."""
        return self.translation < TRANSLATION and self.rotation < ROTATION


def pose_errors(found: se3.Matrix, truth: se3.Matrix) -> tuple[float, float]:
    """Errors of a pose (4, 4) in metres and degrees, seen from the true one."""
    off = se3.inverse(truth) @ found
    return float(np.linalg.norm(off[:3, 3])), float(np.degrees(se3.rotation_angle(off)))


def summary(outcomes: Sequence[ScanOutcome]) -> dict[str, float]:
    """pairs; success: share that is right and called valid; valid_but_wrong and right_but_not_valid in pairs; median
    errors of the successful; p50 and p95 of the milliseconds."""
    good = [one for one in outcomes if one.is_right and one.valid]
    figures = {
        "pairs": float(len(outcomes)),
        "success": len(good) / max(len(outcomes), 1),
        "valid_but_wrong": float(sum(one.valid and not one.is_right for one in outcomes)),
        "right_but_not_valid": float(sum(one.is_right and not one.valid for one in outcomes)),
    }
    if good:
        figures["median_cm"] = 100 * float(np.median([one.translation for one in good]))
        figures["median_deg"] = float(np.median([one.rotation for one in good]))
    if outcomes:
        p50, p95 = np.percentile([one.milliseconds for one in outcomes], (50, 95)).tolist()
        figures |= {"p50_ms": p50, "p95_ms": p95}
    return figures


def by_distance(outcomes: Sequence[ScanOutcome]) -> dict[str, dict[str, float]]:
    """`summary` of each band of distances that holds pairs, and of all of them."""
    bands = {}
    for low, high in zip(BANDS[:-1], BANDS[1:], strict=True):
        chosen = [one for one in outcomes if low <= one.distance < high]
        if chosen:
            bands[f"{low:g} to {high:g} m" if np.isfinite(high) else f"over {low:g} m"] = summary(chosen)
    return {**bands, "all": summary(outcomes)}
