# SPDX-License-Identifier: Apache-2.0
"""Boxes to the numbers that the head regresses at an output cell, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_models.detection.settings import DetectionSettings
from perception_models.geometry.boxes import wrap_angle

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def cell_centres(rows: Ints, columns: Ints, settings: DetectionSettings) -> Floats:
    """Centres (M, 2) x, y in metres of output cells."""
    side = settings.grid.cell * settings.stride
    return ((np.stack([columns, rows], axis=1) + 0.5) * side - settings.grid.extent).astype(np.float32)


def encode(boxes: Floats, centres: Floats, settings: DetectionSettings) -> Floats:
    """Code (M, 10) of boxes (M, 7) seen from cells at `centres` (M, 2).

    Offset in output cells, height in metres, logarithms of the sizes, sine and cosine of twice the yaw (the axis,
    which two
    opposite headings share) and of the yaw (the heading).
    """
    offset = (boxes[:, :2] - centres) / (settings.grid.cell * settings.stride)
    yaw = boxes[:, 6:7]
    angles = [np.sin(2 * yaw), np.cos(2 * yaw), np.sin(yaw), np.cos(yaw)]
    return np.concatenate([offset, boxes[:, 2:3], np.log(boxes[:, 3:6]), *angles], axis=1).astype(np.float32)


def decode(code: Floats, centres: Floats, settings: DetectionSettings) -> Floats:
    """Boxes (M, 7) of codes (M, 10); inverse of `encode`. The axis gives the yaw, the heading only which end is the
    front."""
    xy = centres + code[:, :2] * (settings.grid.cell * settings.stride)
    size = np.exp(np.clip(code[:, 3:6], -3, 4))
    axis = np.arctan2(code[:, 6], code[:, 7]) / 2
    backwards = np.cos(axis) * code[:, 9] + np.sin(axis) * code[:, 8] < 0
    yaw = wrap_angle(np.where(backwards, axis + np.pi, axis))
    return np.concatenate([xy, code[:, 2:3], size, yaw[:, None]], axis=1).astype(np.float32)
