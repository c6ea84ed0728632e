# SPDX-License-Identifier: Apache-2.0
"""Maps of an image, such as descriptors, looked up between their cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def bilinear(maps: Floats, places: Floats) -> Floats:
    """Values (..., C) of maps (C, H, W) at places (..., 2) x y in cells, clamped to the border."""
    height, width = maps.shape[1:]
    places = np.clip(places, 0, np.array([width - 1, height - 1], np.float32))
    corner = np.minimum(places.astype(np.int32), [max(width - 2, 0), max(height - 2, 0)])
    right, down = np.moveaxis(places - corner, -1, 0)[..., None]
    x, y = corner[..., 0], corner[..., 1]
    rows = np.ascontiguousarray(maps.reshape(len(maps), -1).T)
    near, far = rows[y * width + x], rows[(y + 1) * width + x]
    near = near + right * (rows[y * width + x + 1] - near)
    far = far + right * (rows[(y + 1) * width + x + 1] - far)
    sampled: Floats = near + down * (far - near)
    return sampled
