# SPDX-License-Identifier: Apache-2.0
"""The focal length from a map of points in the camera's frame (Wang et al., "DUSt3R", CVPR 2024, section 3.3)."""

from __future__ import annotations

import numpy as np

from perception_models.geometry.cameras import Floats, Matrix, camera_matrix
from perception_models.geometry.robust import weighted_median
from perception_models.reconstruction.view import Bools


def estimate_camera(points: Floats, confidence: Floats, mask: Bools) -> Matrix:
    """Matrix (3, 3) of a camera with square pixels that looks through the centre of the map, at whose focal length f
    points (H, W, 3) fall nearest to their pixels: sum of confidence (H, W) * |pixel - f * (x, y) / z|.

    Where a point falls on the line from the centre to its pixel, a weighted median is exactly that, so wrong points do
    no harm as long as they are few, and nothing is iterated. Raises ValueError where no point lies in front.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask & (points[..., 2] > 1e-6))
    if not len(rows):
        raise ValueError("no point lies in front of the camera; it has no focal length")
    chosen = points[rows, columns].astype(np.float64)
    slopes = chosen[:, :2] / chosen[:, 2:]
    pixels = np.stack([columns - (width - 1) / 2, rows - (height - 1) / 2], axis=1)
    squares = np.maximum(np.einsum("ni,ni->n", slopes, slopes), 1e-12)
    focal = weighted_median(np.einsum("ni,ni->n", pixels, slopes) / squares, confidence[rows, columns] * squares**0.5)
    return camera_matrix(max(focal, 1.0), width, height)
