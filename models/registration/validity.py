# SPDX-License-Identifier: Apache-2.0
"""Whether an alignment may be believed: two clouds always fit somewhere, also when they show different places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.registration.refinement import Refined
from perception_models.registration.settings import RegistrationSettings

Matrix = npt.NDArray[np.float64]

# Neighbouring points err together, so that a cloud's many residuals bear the information of fewer.
CORRELATION = 10.0


@dataclass(frozen=True)
class Evidence:
    """For an alignment: overlap and violation, shares of the clouds' points; support, correspondences that agree with
    it; and its refinement."""

    overlap: float
    violation: float
    support: float
    refined: Refined


def doubt(evidence: Evidence, settings: RegistrationSettings) -> str:
    """Why the alignment is not to be believed; empty where it is."""
    refined = evidence.refined
    if refined.inliers < settings.least_inliers:
        return f"{refined.inliers} points meet, expected {settings.least_inliers}"
    if evidence.overlap - evidence.violation < settings.least_overlap:
        contradicted = f"{evidence.violation:.2f} of it contradicted"
        return f"overlap {evidence.overlap:.2f}, {contradicted}, expected {settings.least_overlap}"
    if evidence.violation > settings.most_violation:
        return f"{evidence.violation:.3f} of the points stand in free space, expected {settings.most_violation} at most"
    if evidence.support < settings.least_support:
        return f"{evidence.support:.1f} correspondences agree, expected {settings.least_support}"
    if weakest_direction(refined) < settings.least_constraint:
        return "the clouds can slide along each other"
    return ""


def weakest_direction(refined: Refined) -> float:
    """How well the least constrained translation is held: the least mean squared cosine, 0 to 1/3, of normals to it."""
    return float(np.linalg.eigvalsh(refined.information[3:, 3:])[0] / max(refined.inliers, 1))


def covariance(refined: Refined) -> Matrix:
    """Covariance (6, 6) of translation (m) and rotation (rad, fixed axes) in the target's frame, about the place where
    the transform puts the source's origin; that of a PoseWithCovariance. Infinite where nothing holds the source."""
    information = refined.information
    if refined.inliers < 6 or np.linalg.eigvalsh(information)[0] < 1e-9 * np.trace(information):
        return np.diag(np.full(6, np.inf))
    own = np.linalg.inv(information) * refined.residual**2 * CORRELATION
    axes = np.kron(np.array([[0, 1], [1, 0]]), refined.transform[:3, :3])  # rotation first to translation first
    return np.asarray(axes @ own @ axes.T)
