# SPDX-License-Identifier: Apache-2.0
"""A textured wall and a camera that looks at it: the smallest place in which an image can be found."""

from __future__ import annotations

import cv2
import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame

MATRIX = np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])
WIDTH, HEIGHT, DISTANCE = 320, 240, 2.0
POSES = [se3.make(np.eye(3), [0.08 * column, 0.06 * row, 0]) for row in range(3) for column in range(4)]


def texture() -> np.ndarray:
    """A wall full of random rectangles, 200 pixels a metre."""
    rng = np.random.default_rng(0)
    wall = np.full((700, 900, 3), 128, np.uint8)
    for _ in range(900):
        x, y = rng.integers(0, [900, 700])
        width, height = rng.integers(5, 60, 2)
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.rectangle(wall, (int(x), int(y)), (int(x + width), int(y + height)), color, -1)
    return wall


def view(pose: np.ndarray, wall: np.ndarray) -> RgbdFrame:
    """What a camera at `pose`, looking along z without rotation, sees of the wall at z = DISTANCE."""
    scale = 200 * DISTANCE / MATRIX[0, 0]  # wall pixels a camera pixel
    origin = np.array([450, 350]) + 200 * pose[:2, 3]
    to_wall = np.array([[scale, 0, origin[0] - scale * 159.5], [0, scale, origin[1] - scale * 119.5]])
    rgb = cv2.warpAffine(wall, to_wall, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return RgbdFrame(rgb.astype(np.uint8), np.full((HEIGHT, WIDTH), DISTANCE, np.float32), MATRIX, pose)
