# SPDX-License-Identifier: Apache-2.0
"""Does the depth of a view agree with the map where the view's pose puts the camera?

A voxel in view is confirmed where the depth image has its distance, looked through where depth is clearly farther, and
hidden where it is nearer. Hidden says nothing against the pose, as unknown things may stand before known ones; but
what was seen a moment ago is hidden or looked through at large only where the pose is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, RgbdFrame
from perception_models.segmentation.online_settings import OnlineSettings
from perception_models.segmentation.voxels import Voxels

Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]
NEAR, SHARE = 0.04, 0.02  # by which depth may differ: m, and share of itself
CELL = 8  # pixels of the grid on which the nearest voxels are found


@dataclass(frozen=True)
class Agreement:
    """Rows of voxels that a view confirms and that it looks through; what speaks against its pose, else empty."""

    confirmed: Integers
    passed: Integers
    contradiction: str = ""


def compare(voxels: Voxels, frame: RgbdFrame, view: int, settings: OnlineSettings) -> Agreement:
    """Compares the voxels in view of a frame, the `view`-th to come, with its depth image."""
    rows, places = voxels.in_view(frame, settings)
    measured, least = _depth_at(frame, places)
    known = measured > 0
    rows, places, measured, least = rows[known], places[known], measured[known], least[known]
    margin = NEAR + SHARE * places[:, 2]
    confirmed = np.abs(measured - places[:, 2]) <= margin
    passed = least > places[:, 2] + margin
    facing = _faces_camera(voxels, rows, frame)
    recent = (voxels.views[rows] > view - 1 - settings.recent_views) & _in_front(places, margin, frame, settings.voxel)
    text = _contradiction(confirmed[facing], passed[facing], recent[facing], settings)
    return Agreement(rows[confirmed], rows[passed], text)


def _contradiction(confirmed: Bools, passed: Bools, recent: Bools, settings: OnlineSettings) -> str:
    if passed.sum() > max(settings.expected, confirmed.sum()):
        return (
            f"depth contradicts the map: it looks through {passed.sum()} known voxels and confirms {confirmed.sum()}; "
            "check the pose, or reset the map where the place has changed"
        )
    seen, agreed = recent.sum(), (recent & confirmed).sum()
    if seen > settings.expected and agreed < settings.agreeing * seen:
        return (
            f"depth contradicts the last views: of {seen} voxels that they saw here it confirms {agreed}; "
            "check the pose, and whether something stands before the camera"
        )
    return ""


def _faces_camera(voxels: Voxels, rows: Integers, frame: RgbdFrame) -> Bools:
    """Whether voxels show the side from which they are known: what was seen of one side only has no other."""
    centre = np.asarray(frame.pose, np.float32)[:3, 3]
    return np.asarray(np.einsum("ij,ij->i", voxels.normals[rows], centre - voxels.points[rows]) > 0)


def _depth_at(frame: RgbdFrame, places: Floats) -> tuple[Floats, Floats]:
    """Depth at pixels (M, 2), 0 for none, and the least around them, 0 where any is unknown."""
    depth = np.asarray(frame.depth, np.float32)
    x, y = np.rint(places[:, :2]).astype(np.int64).T
    return depth[y, x], cv2.erode(depth, np.ones((3, 3), np.uint8))[y, x]


def _in_front(places: Floats, margin: Floats, frame: RgbdFrame, voxel: float) -> Bools:
    """Whether no other voxel (M, 3) x y depth stands before it, as far as the map knows; each covers what its edge
    does in the image, and a cell around."""
    height, width = (side // CELL + 2 for side in frame.rgb.shape[:2])
    column, row = (places[:, :2] / CELL).round().astype(np.int64).T
    reach = np.ceil(frame.camera_matrix[0, 0] * voxel / places[:, 2] / CELL).astype(np.int64)
    nearest = np.full((height, width), np.inf, np.float32)
    for cells in np.unique(reach).tolist():
        some, image = reach == cells, np.full((height, width), np.inf, np.float32)
        np.minimum.at(image, (row[some], column[some]), places[some, 2])
        covered = cv2.erode(image, np.ones((2 * cells + 1, 2 * cells + 1), np.uint8))
        nearest = np.minimum(nearest, covered)
    return np.asarray(places[:, 2] <= nearest[row, column] + 2 * margin)
