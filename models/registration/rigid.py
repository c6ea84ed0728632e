# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms from matched points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def weighted_rigid(source: Matrix, target: Matrix, weights: Matrix) -> Matrix:
    """Transforms (K, 4, 4) that best move points (K, P, 3) onto (K, P, 3) with weights (K, P), in the sense of least
    squares (Kabsch)."""
    share = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    centre, goal = np.einsum("kp,kpi->ki", share, source), np.einsum("kp,kpi->ki", share, target)
    spread = np.einsum("kp,kpi,kpj->kij", share, source - centre[:, None], target - goal[:, None])
    left, _, right = np.linalg.svd(spread)
    flip = np.sign(np.linalg.det(left @ right))
    right[:, 2] *= flip[:, None]
    rotation = np.transpose(left @ right, (0, 2, 1))
    transforms = np.tile(np.eye(4), (len(source), 1, 1))
    transforms[:, :3, :3] = rotation
    transforms[:, :3, 3] = goal - np.einsum("kij,kj->ki", rotation, centre)
    return transforms
