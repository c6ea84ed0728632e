# SPDX-License-Identifier: Apache-2.0
"""Bird's-eye pictures of a scan with true and found boxes."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from perception_models.geometry.boxes import Floats, corners_bev

Colour = tuple[int, int, int]

BACKGROUND: Colour = (16, 20, 28)
GRID: Colour = (52, 60, 74)
TRUE: Colour = (80, 220, 120)
HIT: Colour = (70, 160, 255)
FALSE: Colour = (255, 80, 80)
MISSED: Colour = (255, 190, 40)
SILENT: Colour = (120, 126, 138)

LEGEND = [("truth found", TRUE), ("hit", HIT), ("missed", MISSED), ("false", FALSE), ("not judged", SILENT)]

# Points from dark blue (2 m below the sensor and lower) over green to yellow (2 m above and higher).
_LOW, _MIDDLE, _HIGH = np.array([60, 80, 150]), np.array([70, 150, 140]), np.array([220, 210, 120])


class BirdsEye:
    """Picture of `reach` metres to each side: x up, y to the left, one ring every 20 m; `size` pixels square."""

    def __init__(self, points: Floats, reach: float = 50.0, size: int = 900) -> None:
        """Draws points (N, >= 3) in metres, coloured by height."""
        self._scale, self._size = size / (2 * reach), size
        pixels = np.full((size, size, 3), BACKGROUND, np.uint8)
        place = self._pixels(points[:, :2]).astype(int)
        inside = ((place >= 0) & (place < size)).all(axis=1)
        order = np.flatnonzero(inside)[np.argsort(points[inside, 2], kind="stable")]
        pixels[place[order, 1], place[order, 0]] = _height_colours(points[order, 2])
        self._image = Image.fromarray(pixels)
        self._draw = ImageDraw.Draw(self._image)
        for radius in np.arange(20, reach * 1.5, 20):
            self._ring(float(radius))

    def boxes(self, boxes: Floats, colour: Colour, width: int = 2) -> None:
        """Outline boxes (K, 7); a line from the centre to the front shows the heading."""
        for corners in self._pixels(corners_bev(boxes)):
            self._draw.line([tuple(corner) for corner in corners[[0, 1, 2, 3, 0]]], fill=colour, width=width)
            front = (corners[0] + corners[3]) / 2
            self._draw.line([tuple(corners.mean(axis=0)), tuple(front)], fill=colour, width=width)

    def legend(self, title: str, meanings: Sequence[tuple[str, Colour]] = LEGEND) -> None:
        """Write a title, and what the colours mean, into the upper left corner."""
        self._draw.text((12, 10), title, fill=(255, 255, 255))
        for row, (text, colour) in enumerate(meanings):
            top = 30 + 16 * row
            self._draw.rectangle([12, top + 2, 24, top + 10], outline=colour, width=2)
            self._draw.text((30, top), text, fill=colour)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        buffer = BytesIO()
        self._image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def _pixels(self, xy: Floats) -> Floats:
        """Picture coordinates (..., 2), right and down, of places (..., 2) forward and left in metres."""
        return self._size / 2 - self._scale * xy[..., ::-1]

    def _ring(self, radius: float) -> None:
        middle, extent = self._size / 2, radius * self._scale
        self._draw.ellipse([middle - extent, middle - extent, middle + extent, middle + extent], outline=GRID)
        self._draw.text((middle + 3, middle - extent + 2), f"{radius:.0f} m", fill=SILENT)


def _height_colours(z: Floats) -> NDArray[np.uint8]:
    share = np.round(np.clip(z / 4 + 0.5, 0, 1)[:, None] * 16) / 16  # few colours make small files
    lower = _LOW + (_MIDDLE - _LOW) * np.minimum(share * 2, 1)
    colours: NDArray[np.float64] = lower + (_HIGH - _MIDDLE) * np.maximum(share * 2 - 1, 0)
    return colours.astype(np.uint8)
