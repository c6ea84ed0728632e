# SPDX-License-Identifier: Apache-2.0
"""A point that moves with nearly constant velocity, filtered (Bar-Shalom et al., "Estimation with Applications to
Tracking and Navigation", 2001, section 6.3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3

Values = npt.NDArray[np.float64]

ACCELERATION = np.array([3.0, 3.0, 0.5])  # m/s2, one standard deviation along each axis
FIRST_SPEED = np.array([10.0, 10.0, 1.0])  # m/s, of a target of which nothing is known
ERROR = np.array([0.3, 0.3, 0.2])  # m, of a measured centre


class PointFilter:
    """State: mean (6,) x y z and velocity, and covariance (6, 6), in the frame of the last scan."""

    def __init__(self, position: npt.ArrayLike) -> None:
        self.mean = np.concatenate([np.asarray(position, float), np.zeros(3)])
        self.covariance = np.diag(np.concatenate([ERROR, FIRST_SPEED]) ** 2)

    def predict(self, seconds: float) -> None:
        """Move on by its velocity."""
        step = np.eye(6)
        step[:3, 3:] = seconds * np.eye(3)
        gain = np.concatenate([np.diag(ACCELERATION) * seconds**2 / 2, np.diag(ACCELERATION) * seconds])
        self.mean = step @ self.mean
        self.covariance = step @ self.covariance @ step.T + gain @ gain.T

    def move(self, transform: se3.Matrix) -> None:
        """Take another frame: `transform` (4, 4) moves points of this one into it."""
        turn = np.kron(np.eye(2), transform[:3, :3])
        self.mean = turn @ self.mean
        self.mean[:3] += transform[:3, 3]
        self.covariance = turn @ self.covariance @ turn.T

    def surprise(self, positions: Values) -> Values:
        """Squared Mahalanobis distance of measured places (K, 3) from the prediction, seen from above: (K,)."""
        spread = (self.covariance[:3, :3] + np.diag(ERROR**2))[:2, :2]
        away = positions[:, :2] - self.mean[:2]
        return np.asarray(np.einsum("ki,ij,kj->k", away, np.linalg.inv(spread), away))

    def correct(self, position: Values) -> None:
        """Take in a measured place (3,)."""
        spread = self.covariance[:3, :3] + np.diag(ERROR**2)
        gain = self.covariance[:, :3] @ np.linalg.inv(spread)
        self.mean = self.mean + gain @ (position - self.mean[:3])
        self.covariance = self.covariance - gain @ self.covariance[:3]
