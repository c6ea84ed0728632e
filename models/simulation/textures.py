# SPDX-License-Identifier: Apache-2.0
"""Textures of a room: procedural ones, made from a seed when first looked at, and images; sampled with mip maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Image = NDArray[np.float32]
SIZE = 256  # pixels of a texture
LEVELS = 8
# What the layers of a room's textures are; several of a kind differ by their random draws.
LAYERS = (
    *("plain", "wood", "wood", "wood", "wood", "cloth", "cloth", "cloth", "cloth", "plaster", "plaster", "tiles"),
    *("tiles", "planks", "planks", "stripes", "checks", "carpet", "carpet", "stone", "stone", "books", "books"),
    *("print", "print", "print", "print", "print", "print", "picture", "picture", "picture", "picture", "outside"),
)


class Textures:
    """All layers of one room: LAYERS, then the images (any size, made square) that it was given."""

    def __init__(self, seed: int, images: Sequence[NDArray[np.uint8]] = ()) -> None:
        self._seed, self._images = seed, images

    @cached_property
    def _pyramid(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pixels (P, 3) of all layers at all levels, and where each level begins."""
        rng = np.random.default_rng(self._seed)
        images = [np.clip(_MAKERS[kind](rng), 0, 255).astype(np.uint8) for kind in LAYERS]
        images += [cv2.resize(i, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.uint8) for i in self._images]
        levels = [
            np.stack([cv2.resize(i, (SIZE >> n, SIZE >> n), interpolation=cv2.INTER_AREA) for i in images])
            for n in range(LEVELS)
        ]
        starts = np.cumsum([0] + [level.size // 3 for level in levels[:-1]])
        return np.concatenate([level.reshape(-1, 3) for level in levels]), starts

    def sample(
        self, layers: NDArray[np.int64], uv: NDArray[np.float32], footprint: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Colours (N, 3) 0..1 at uv (N, 2) repeats, for pixels that cover `footprint` (N,) repeats; bilinear."""
        pixels, starts = self._pyramid
        level = np.clip(np.rint(np.log2(np.maximum(footprint, 1e-9) * SIZE)), 0, LEVELS - 1).astype(np.int64)
        size = SIZE >> level
        place = (uv % 1) * size[:, None] - 0.5
        corner = np.floor(place).astype(np.int64)
        weight = (place - corner).astype(np.float32)
        base = starts[level] + layers * size * size
        total = np.zeros((len(uv), 3), np.float32)
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            share = np.abs(1 - dx - weight[:, 0]) * np.abs(1 - dy - weight[:, 1])
            x, y = (corner[:, 0] + dx) & (size - 1), (corner[:, 1] + dy) & (size - 1)
            total += share[:, None] * pixels[base + y * size + x]
        return np.asarray(total / 255, np.float32)


def fractal(rng: Rng, shape: tuple[int, int] = (4, 4), octaves: int = 5) -> Image:
    """Noise (SIZE, SIZE) of mean 0, about -1..1, with detail halved in strength from octave to octave; it tiles."""
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(octaves):
        cells = [min(side << octave, SIZE) for side in shape]
        grid = np.pad(rng.uniform(-1, 1, cells).astype(np.float32), 2, mode="wrap")
        zoom = [SIZE // side for side in cells]
        fine = cv2.resize(grid, None, fx=zoom[1], fy=zoom[0], interpolation=cv2.INTER_CUBIC)
        total += fine[2 * zoom[0] : 2 * zoom[0] + SIZE, 2 * zoom[1] : 2 * zoom[1] + SIZE] / 2**octave
    return total


def _grey(values: NDArray[np.floating]) -> Image:
    return np.repeat(values[..., None], 3, axis=2).astype(np.float32)


def _plain(rng: Rng) -> Image:
    return np.full((SIZE, SIZE, 3), 255, np.float32)


def _wood(rng: Rng) -> Image:
    across = fractal(rng, (2, 16), 4)
    rings = np.sin(across * rng.uniform(3, 9) + np.linspace(0, 2 * np.pi * rng.integers(2, 9), SIZE))
    return _grey(205 + rng.uniform(10, 30) * rings + 20 * fractal(rng, (4, 64), 3))


def _cloth(rng: Rng) -> Image:
    weave = np.add.outer(np.sin(np.arange(SIZE) * np.pi / 2), np.sin(np.arange(SIZE) * np.pi / 2))
    return _grey(200 + 12 * weave.astype(np.float32) + rng.uniform(5, 40) * fractal(rng, (8, 8)))


def _plaster(rng: Rng) -> Image:
    return _grey(235 + rng.uniform(2, 12) * fractal(rng, (2, 2), 7))


def _tiles(rng: Rng) -> Image:
    count = int(rng.choice([2, 4]))
    side = SIZE // count
    tones = np.kron(rng.uniform(190, 245, (count, count)), np.ones((side, side))).astype(np.float32)
    joint = (np.arange(SIZE) % side < 4)[:, None] | (np.arange(SIZE) % side < 4)
    return _grey(np.where(joint, rng.uniform(90, 170), tones + 8 * fractal(rng)).astype(np.float32))


def _planks(rng: Rng) -> Image:
    count = int(rng.choice([4, 8]))
    width = SIZE // count
    image = _wood(rng) + np.repeat(rng.uniform(-30, 25, count), width)[None, :, None]
    image[:, ::width] *= 0.5
    for plank, end in enumerate(rng.integers(0, SIZE, count)):
        image[end, plank * width : (plank + 1) * width] *= 0.5
    return np.asarray(image, np.float32)


def _stripes(rng: Rng) -> Image:
    colours = rng.uniform(120, 255, (int(rng.integers(2, 5)), 3))
    edges = np.sort(rng.integers(0, SIZE, 12))
    row = colours[np.searchsorted(edges, np.arange(SIZE)) % len(colours)]
    return np.broadcast_to(row, (SIZE, SIZE, 3)).astype(np.float32) + 5 * _grey(fractal(rng))


def _checks(rng: Rng) -> Image:
    stripe = np.repeat(rng.uniform(0.5, 1, 8), SIZE // 8)
    return np.asarray(np.outer(stripe, stripe)[..., None] * rng.uniform(160, 255, 3), np.float32)


def _carpet(rng: Rng) -> Image:
    return _grey(190 + 45 * fractal(rng, (64, 64), 3)) + rng.uniform(10, 50) * fractal(rng, (4, 4), 2)[..., None]


def _stone(rng: Rng) -> Image:
    speckles = np.abs(fractal(rng, (16, 16), 5))
    return _grey(230 - rng.uniform(40, 160) * speckles)


def _books(rng: Rng) -> Image:
    image = np.empty((SIZE, SIZE, 3), np.float32)
    edges = np.unique(np.concatenate([[0, SIZE], rng.integers(0, SIZE, 14)]))
    for left, right in zip(edges, edges[1:], strict=False):
        image[:, left:right] = rng.uniform(30, 255, 3)
        top = int(rng.integers(10, 120))
        image[top : top + int(rng.integers(20, 100)), left + 3 : right - 3] = rng.uniform(30, 255, 3)
        image[:, left] *= 0.4
    return image


def _print(rng: Rng) -> Image:
    """Packaging, posters and pages: coloured areas and lines of letters."""
    paper = rng.uniform(90, 255, 3) if rng.random() < 0.6 else 245
    image = np.full((SIZE, SIZE, 3), paper, np.uint8)
    for _ in range(int(rng.integers(1, 6))):
        a, b = rng.integers(0, SIZE, 2), rng.integers(20, SIZE, 2)
        if rng.random() < 0.5:
            cv2.rectangle(image, a.tolist(), b.tolist(), rng.uniform(20, 255, 3).tolist(), -1)
        else:
            cv2.circle(image, a.tolist(), int(b[0] // 3), rng.uniform(20, 255, 3).tolist(), -1)
    letters = "abcdefghiklmnoprstuvwzABCDEFGHKLMNOPRSTUVWZ0123456789.,   "
    y = int(rng.integers(10, 40))
    while y < SIZE:
        scale = float(rng.choice([0.4, 0.5, 0.8, 1.6]))
        line = "".join(rng.choice(list(letters), 40))
        ink = rng.uniform(0, 90, 3).tolist() if image.mean() > 120 else rng.uniform(170, 255, 3).tolist()
        cv2.putText(image, line, (10, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1 + int(scale), cv2.LINE_AA)
        y += int(30 * scale + 14 + rng.integers(0, 30))
    return image.astype(np.float32)


def _picture(rng: Rng) -> Image:
    """Something like a photograph: soft areas of colour, edges, detail."""
    first, second = fractal(rng, (2, 2), 6), fractal(rng, (2, 4), 7)
    colours = rng.uniform(0, 255, (4, 3)).astype(np.float32)
    bands = np.digitize(first, np.sort(rng.uniform(-1, 1, 3)))
    return colours[bands] + 60 * second[..., None] * rng.uniform(0.3, 1, 3).astype(np.float32)


def _outside(rng: Rng) -> Image:
    """What a window shows: sky over roofs and trees."""
    skyline = 150 + 30 * fractal(rng, (4, 4))[0]
    below = np.arange(SIZE)[:, None] > skyline
    ground = rng.uniform(40, 130, 3) + 40 * fractal(rng, (8, 8))[..., None]
    sky = np.array([200, 220, 250]) + 15 * fractal(rng)[..., None]
    return np.where(below[..., None], ground, sky).astype(np.float32)


_MAKERS: dict[str, Callable[[Rng], Image]] = {
    "plain": _plain,
    "wood": _wood,
    "cloth": _cloth,
    "plaster": _plaster,
    "tiles": _tiles,
    "planks": _planks,
    "stripes": _stripes,
    "checks": _checks,
    "carpet": _carpet,
    "stone": _stone,
    "books": _books,
    "print": _print,
    "picture": _picture,
    "outside": _outside,
}
