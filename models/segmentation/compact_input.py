# SPDX-License-Identifier: Apache-2.0
"""An image as the compact network sees it: letterboxed, with depth beside it where there is any."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.segmentation.compact_settings import CompactSettings

Floats = NDArray[np.float32]
SPREAD = np.float32(1.5)  # log of a depth over the image's median beyond which it is clipped


@dataclass(frozen=True)
class Frame:
    """Network inputs rgb (1, 3, H, W) 0 to 1 and depth (1, 2, H, W); how image pixels become input pixels."""

    rgb: Floats
    depth: Floats
    size: tuple[int, int]  # (width, height) of the image
    filled: tuple[int, int]  # columns and rows of the input that show the image

    def to_input(self, pixels: NDArray[np.floating]) -> Floats:
        """Input pixels (..., 2) of image pixels (..., 2)."""
        return np.asarray((pixels + 0.5) * np.divide(self.filled, self.size) - 0.5, np.float32)


def prepare(rgb: NDArray[np.uint8], depth: Floats | None, settings: CompactSettings) -> Frame:
    """The image (H, W, 3), with depth (H, W) metres or None, in the upper left of the network's input.

    Raises ValueError for another shape or type, or a depth of another size.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"an image is (H, W, 3) uint8 RGB, got {rgb.shape} {rgb.dtype}")
    if depth is not None and depth.shape != rgb.shape[:2]:
        raise ValueError(f"depth is {depth.shape}, the image {rgb.shape[:2]}; register depth to the image first")
    height, width = rgb.shape[:2]
    factor = min(settings.width / width, settings.height / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    smaller = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    image = np.empty((settings.height, settings.width, 3), np.float32)
    image[:] = smaller.mean(axis=(0, 1))  # neutral beyond the image
    image[: size[1], : size[0]] = smaller
    deep = None
    if depth is not None:
        deep = np.zeros(image.shape[:2], np.float32)
        deep[: size[1], : size[0]] = cv2.resize(np.nan_to_num(depth), size, interpolation=cv2.INTER_NEAREST)
    planes = image.transpose(2, 0, 1)[None] / np.float32(255)
    return Frame(np.ascontiguousarray(planes), depth_channels(deep, image.shape)[None], (width, height), size)


def depth_channels(depth: Floats | None, shape: tuple[int, ...]) -> Floats:
    """Channels (2, H, W) of a depth image (H, W) in metres, 0 where unknown, or of None: log of the depth over the
    image's median, clipped, and whether it is known. Without scale: a table looks the same from near and from far."""
    channels = np.zeros((2, *shape[:2]), np.float32)
    if depth is None:
        return channels
    known = np.isfinite(depth) & (depth > 0)
    if known.any():
        values = depth[known]
        channels[0][known] = np.clip(np.log(values / np.median(values)), -SPREAD, SPREAD)
        channels[1] = known
    return channels
