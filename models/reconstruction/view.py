# SPDX-License-Identifier: Apache-2.0
"""What one image gives: its points in the world, depth, pose and camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix

Bools = NDArray[np.bool_]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """One image as the network sees it, H x W pixels of the canonical camera (see `input`).

    points (H, W, 3) float32 m in the world, the frame of the first camera after the last start (optical: z forward, x
    right, y down); confidence (H, W) float32, 1 and up; depth (H, W) float32 m along the optical axis; pose (4, 4)
    float64 camera -> world; camera_matrix (3, 3) float64 of these pixels; rgb (H, W, 3) uint8, what the network saw
    (of an unseen view: what it expects); mask (H, W): pixels that show the image, not the border about it.

    valid: whether there is a result. Where not, `reason` says why, confidence and depth are 0, the mask is empty,
    points and pose are NaN, and nothing entered the state.
    kept: whether the image entered the state.
    reset: why the state was begun anew with this image, empty where it was not. world: number of the world frame; it
    grows where a reset gave up the old one, so what was placed before no longer fits. scale: metres a unit of the
    network's own.
    """

    points: Floats
    confidence: Floats
    depth: Floats
    pose: Matrix
    camera_matrix: Matrix
    rgb: Rgb
    mask: Bools
    valid: bool = True
    reason: str = ""
    reset: str = ""
    world: int = 0
    scale: float = 1.0
    kept: bool = False

    def confident(self, least: float) -> Bools:
        """Pixels (H, W) that show the image and of which the network is as sure as `least`, 1 and up."""
        return np.asarray(self.mask & (self.confidence >= least))


def no_view(width: int, height: int, reason: str, world: int = 0) -> View:
    """A view without a result, of the network's size."""
    blank = np.zeros((height, width), np.float32)
    points, nowhere = np.full((height, width, 3), np.nan, np.float32), np.full((4, 4), np.nan)
    black = np.zeros((height, width, 3), np.uint8)
    return View(points, blank, blank, nowhere, np.full((3, 3), np.nan), black, blank > 0, False, reason, world=world)
