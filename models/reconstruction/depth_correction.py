# SPDX-License-Identifier: Apache-2.0
"""A depth map brought to depths that are known better at a few places: a factor that changes slowly over the image."""

from __future__ import annotations

import cv2
import numpy as np

from perception_models.geometry.cameras import Floats, Matrix

FEWEST = 20  # places, below which one factor is for the whole image
OFF = 0.15  # of a logarithm; what is further off than its neighbours say counts less
SLOPES = 10.0  # places as many as it takes to halve a slope across the image
REACH, LAYER = 0.25, 0.3  # how far a place tells of others: in x / z and y / z, and in the logarithm of depth
DOUBT = 8.0  # places as many as it takes to halve what is told
CELL = 8  # pixels of a depth map for which one factor is found


def corrected(depth: Floats, rays: Matrix, given: Matrix, true: Matrix, camera_matrix: Matrix) -> Floats:
    """A depth map (H, W) m of a camera with a matrix (3, 3), which has the depths `given` (N,) in directions `rays`
    (N, 2), x / z and y / z, where they should be `true` (N,) m."""
    if not len(rays):
        return depth
    error = np.log(true / given)
    if len(rays) < FEWEST:
        return np.asarray(depth * np.float32(np.exp(np.median(error))), np.float32)
    small, cells = _cells(depth, camera_matrix)
    places, middle = np.column_stack([rays, np.log(given)]), np.log(np.median(given))
    plane = _plane(places - [0, 0, middle], error)
    rest = error - _terms(places - [0, 0, middle]) @ plane
    factor = _terms(cells - [0, 0, middle]) @ plane + _told(cells, places, rest)
    grown = cv2.resize(factor.reshape(small).astype(np.float32), depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(depth * np.exp(grown), np.float32)


def _cells(depth: Floats, camera_matrix: Matrix) -> tuple[tuple[int, int], Matrix]:
    """Rows and columns of cells, and of each (C, 3) x / z, y / z and the logarithm of depth in its middle."""
    rows, columns = max(depth.shape[0] // CELL, 1), max(depth.shape[1] // CELL, 1)
    mean = np.maximum(cv2.resize(depth, (columns, rows), interpolation=cv2.INTER_AREA), 1e-3)
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    pixels = (np.stack([x, y], 1) + 0.5) * np.divide(depth.shape[::-1], (columns, rows)) - 0.5
    rays = (pixels - camera_matrix[:2, 2]) / camera_matrix[[0, 1], [0, 1]]
    return (rows, columns), np.column_stack([rays, np.log(mean.ravel())])


def _terms(places: Matrix) -> Matrix:
    """(N, 4): a constant and slopes."""
    return np.pad(places, ((0, 0), (1, 0)), constant_values=1)


def _plane(places: Matrix, error: Matrix) -> Matrix:
    """A constant and slopes (4,) of an error (N,), by least squares with Cauchy's weights."""
    terms, plane = _terms(places), np.array([np.median(error), 0, 0, 0])
    for _ in range(10):
        weighted = terms / (1 + ((error - terms @ plane) / OFF) ** 2)[:, None]
        plane = np.linalg.solve(weighted.T @ terms + np.diag([1e-3, SLOPES, SLOPES, SLOPES]), weighted.T @ error)
    return plane


def _told(cells: Matrix, places: Matrix, rest: Matrix) -> Matrix:
    """What places (N, 3) with a remaining error (N,) tell of cells (C, 3): a mean of what is near in all respects."""
    apart = (cells[:, None] - places) / [REACH, REACH, LAYER]
    weights = np.exp(-0.5 * np.einsum("cnk,cnk->cn", apart, apart)) / (1 + (rest / OFF) ** 2)
    return np.asarray(weights @ rest / (weights.sum(axis=1) + DOUBT), np.float64)
