# SPDX-License-Identifier: Apache-2.0
"""Which places the truth speaks about: labels made from a camera say nothing about what that camera does not see."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class ImageCoverage:
    """The truth covers what a rectified camera sees.

    `projection` (3, 4) maps points of the boxes' frame to pixels; `width` and `height` are the image's, in pixels.
    """

    projection: NDArray[np.float64]
    width: int
    height: int

    def covers(self, points: Floats, ignored: Floats) -> NDArray[np.bool_]:
        """Which points (K, 3) lie in front of the camera, in its image and in no rectangle ignored (R, 4): (K,) bool.

        Rectangles are left, top, right, bottom in pixels.
        """
        homogeneous = points @ self.projection[:, :3].T + self.projection[:, 3]
        ahead = homogeneous[:, 2] > 0
        pixels = homogeneous[:, :2] / np.where(ahead, homogeneous[:, 2], 1)[:, None]
        seen = ahead & _inside(pixels, np.array([[0, 0, self.width, self.height]]))[:, 0]
        covered: NDArray[np.bool_] = seen & ~_inside(pixels, ignored).any(axis=1)
        return covered


def _inside(pixels: Floats, rectangles: Floats) -> NDArray[np.bool_]:
    """Which pixels (K, 2) lie in which rectangles (R, 4): (K, R)."""
    place = pixels[:, None]
    inside: NDArray[np.bool_] = np.all((place >= rectangles[:, :2]) & (place <= rectangles[:, 2:]), axis=2)
    return inside
