# SPDX-License-Identifier: Apache-2.0
"""A depth image from the points of a LiDAR, filled between its rings.

Inverse depth is linear over the image of a plane, so a plane is fitted to it around each pixel by least squares
(normalised convolution of first order: Knutsson and Westin, CVPR 1993).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix, project

Kernel = NDArray[np.float64]

WINDOW = 11  # pixels, over which points are put together
JUMP = 0.08  # share of depth, beyond which points in a window are of two surfaces and nothing is filled in
FEWEST = 4  # points in a window
ASIDE = 0.25  # of the window, by which the middle of its points may lie beside it


def depth_from_points(points: Floats, matrix: Matrix, width: int, height: int) -> Floats:
    """Depth (H, W) m along the optical axis, 0 where it is not known, of points (N, 3) in the camera's frame."""
    sparse = _nearest(points, matrix, width, height)
    known = (sparse > 0).astype(np.float32)
    inverse = np.divide(known, sparse, out=np.zeros_like(sparse), where=sparse > 0)
    fitted, is_fit = _plane(inverse, known)
    window = np.ones((WINDOW, WINDOW), np.uint8)
    farthest = cv2.dilate(sparse, window)
    nearest = cv2.erode(np.where(sparse > 0, sparse, np.float32(1e9)), window)
    is_one = is_fit & (farthest < (1 + JUMP) * nearest) & (fitted > 0)
    filled = np.divide(1, fitted, out=np.zeros_like(fitted), where=is_one)
    inside = is_one & (filled > 0.9 * nearest) & (filled < 1.1 * farthest)
    return np.where(inside, filled, sparse)


def _nearest(points: Floats, matrix: Matrix, width: int, height: int) -> Floats:
    """Depth (H, W) of the nearest point in each pixel, 0 for none."""
    pixels = project(points.astype(np.float32), matrix)
    seen = (pixels > -0.5).all(axis=1) & (pixels < np.array([width - 0.5, height - 0.5])).all(axis=1)
    column, row = np.rint(pixels[seen]).astype(np.int64).T
    depth = points[seen, 2]
    farthest_first = np.argsort(-depth, kind="stable")
    image = np.zeros((height, width), np.float32)
    image[row[farthest_first], column[farthest_first]] = depth[farthest_first]
    return image


def _plane(values: Floats, known: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """At each pixel the plane through the values (H, W) that are known around it, and where it is well determined."""
    one: Kernel = np.ones(WINDOW)
    ramp = np.arange(WINDOW, dtype=np.float64) - WINDOW // 2
    square: Kernel = np.asarray(ramp**2, np.float64)

    def total(image: Floats, x: Kernel, y: Kernel) -> Kernel:
        summed = cv2.sepFilter2D(image, cv2.CV_64F, x, y, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(summed, np.float64)

    n, sx, sy = total(known, one, one), total(known, ramp, one), total(known, one, ramp)
    sxx, sxy, syy = total(known, square, one), total(known, ramp, ramp), total(known, one, square)
    v, vx, vy = total(values, one, one), total(values, ramp, one), total(values, one, ramp)
    cofactors = sxx * syy - sxy**2, sx * syy - sxy * sy, sx * sxy - sxx * sy  # Cramer's rule for the value here
    determinant = n * cofactors[0] - sx * cofactors[1] + sy * cofactors[2]
    off = ASIDE * WINDOW * np.maximum(n, 1)
    is_fit = (n >= FEWEST) & (np.abs(sx) < off) & (np.abs(sy) < off) & (determinant > 1e-3 * n**3)
    here = v * cofactors[0] - vx * cofactors[1] + vy * cofactors[2]
    return np.divide(here, determinant, out=np.zeros_like(here), where=is_fit).astype(np.float32), is_fit
