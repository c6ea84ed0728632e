# SPDX-License-Identifier: Apache-2.0
"""Why a view cannot be used, said of the view alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Matrix, RgbdFrame
from perception_models.segmentation.online_settings import OnlineSettings

FEWEST = 0.02  # share of the pixels that must have depth in range


def fault_of(frame: RgbdFrame, settings: OnlineSettings) -> str:
    """What is wrong with a view and what to do; empty where nothing is."""
    return _fault_of_pose(frame.pose) or _fault_of_depth(frame, settings) or _fault_of_image(frame.rgb, settings)


def _fault_of_pose(pose: Matrix | None) -> str:
    if pose is None:
        return "the view has no pose: where the camera was at its stamp must be known"
    if not np.isfinite(pose).all() or np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 1e-3:
        return "the pose of the view is not finite or no rotation: check where it comes from"
    return ""


def _fault_of_depth(frame: RgbdFrame, settings: OnlineSettings) -> str:
    depth = frame.depth
    if depth is None:
        return "the view has no depth: an image alone does not tell where things are"
    if depth.shape != frame.rgb.shape[:2]:
        return f"depth is {depth.shape} and the image {frame.rgb.shape[:2]}: register depth to the image"
    share = float(((depth >= settings.min_depth) & (depth <= settings.max_depth)).mean())
    if share < FEWEST:
        within = f"{settings.min_depth:g} to {settings.max_depth:g} m"
        return f"{share:.1%} of the pixels have depth within {within}: check the sensor, or max_depth"
    return ""


def _fault_of_image(rgb: NDArray[np.uint8], settings: OnlineSettings) -> str:
    mean, deviation = cv2.meanStdDev(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    if mean.item() < settings.darkest:
        return f"the image is black (mean {mean.item():.0f} of 255): is the camera covered, or the light off?"
    if deviation.item() < settings.flattest:
        return f"the image is one colour (deviation {deviation.item():.1f} of 255): is the camera covered?"
    return ""
