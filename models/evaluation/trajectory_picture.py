# SPDX-License-Identifier: Apache-2.0
"""Trajectories from above, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE, MARGIN = 640, 40  # pixels
COLOURS = ("#9aa4b5", "#d62728", "#1f77b4", "#2ca02c")


def draw_trajectories(places: Mapping[str, NDArray[np.float64]]) -> bytes:
    """PNG of lines by name, places (F, >= 2) x y in metres, to one scale, x up and y to the left; NaN leaves a gap.

    Raises ValueError where no place is given.
    """
    everything = np.concatenate([line[:, :2] for line in places.values()])
    everything = everything[np.isfinite(everything).all(axis=1)]
    if not len(everything):
        raise ValueError("no place to draw")
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = (SIZE - 2 * MARGIN) / max(float((high - low).max()), 1e-3)
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    canvas = ImageDraw.Draw(picture)
    for row, ((name, line), colour) in enumerate(zip(places.items(), COLOURS, strict=False)):
        pixels = SIZE / 2 - (line[:, [1, 0]] - ((low + high) / 2)[[1, 0]]) * scale
        for start, end in zip(pixels[:-1], pixels[1:], strict=True):
            if np.isfinite([start, end]).all():
                canvas.line([*start, *end], fill=colour, width=3)
        canvas.text((10, 10 + 14 * row), name, fill=colour)
    _draw_scale(canvas, scale)
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def _draw_scale(canvas: ImageDraw.ImageDraw, scale: float) -> None:
    """A bar of a round length in the lower left corner."""
    metres = 10.0 ** np.floor(np.log10((SIZE / 3) / scale))
    bottom = SIZE - 14
    canvas.line([10, bottom, 10 + metres * scale, bottom], fill="#1c2330", width=2)
    canvas.text((14, bottom - 14), f"{metres:g} m", fill="#1c2330")
