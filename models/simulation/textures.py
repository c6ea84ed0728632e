# SPDX-License-Identifier: Apache-2.0
"""Procedural textures: a colour for each place of a surface, the same from wherever it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Rng = np.random.Generator


class Pattern(IntEnum):
    """How the two colours of a texture alternate."""

    PLAIN = 0
    GRAIN = 1  # noise stretched along one direction, as wood
    STRIPES = 2
    CHECKS = 3
    PRINT = 4  # lines of dashes with blank margins, as text and labels
    BLOTCHES = 5  # noise with hard edges, as prints of pictures
    SPECKLE = 6  # cells of random brightness, as woven cloth or tiles


@dataclass(frozen=True)
class Textures:
    """One row a surface (S, ...): pattern, two colours (S, 3) 0 to 1, period [m], share of wear, seed of its noise."""

    pattern: NDArray[np.int64]
    first: F32
    second: F32
    period: F32
    wear: F32
    seed: Ints

    @staticmethod
    def sample(rng: Rng, count: int, plainness: float) -> Textures:
        """Random textures; `plainness` is the share without a pattern."""
        others = rng.integers(1, len(Pattern), count)
        pattern = np.where(rng.random(count) < plainness, int(Pattern.PLAIN), others)
        first = _colours(rng, count)
        near = np.clip(first * rng.uniform(0.5, 1.3, (count, 1)) + rng.normal(0, 0.05, (count, 3)), 0, 1)
        far = _colours(rng, count)
        second = np.where(rng.random((count, 1)) < 0.5, near, far)
        period = np.exp(rng.uniform(np.log(0.01), np.log(0.25), count))
        wear = rng.uniform(0.0, 0.12, count)
        seeds = rng.integers(1, 2**31, count)
        return Textures(
            pattern,
            first.astype(np.float32),
            second.astype(np.float32),
            period.astype(np.float32),
            wear.astype(np.float32),
            seeds,
        )

    def colour(self, surface: Ints, places: F32) -> F32:
        """Albedo (N, 3) 0 to 1 at places (N, 2), metres along the surfaces numbered `surface` (N,)."""
        seed, period = self.seed[surface], self.period[surface]
        share = np.zeros(len(surface), np.float32)
        pattern = self.pattern[surface]
        for kind in np.unique(pattern[pattern != Pattern.PLAIN]):
            chosen = np.flatnonzero(pattern == kind)
            share[chosen] = _PATTERNS[Pattern(kind)](places[chosen] / period[chosen, None], seed[chosen])
        mixed = self.first[surface] + share[:, None] * (self.second[surface] - self.first[surface])
        worn = 1 + self.wear[surface] * (noise(places * 6, seed + 7) + noise(places * 25, seed + 8) - 1)
        return np.asarray(np.clip(mixed * worn[:, None], 0, 1), np.float32)


def _colours(rng: Rng, count: int) -> NDArray[np.float64]:
    """Colours (count, 3) as of indoor things: many greys, whites and browns, some bright."""
    value = rng.beta(1.6, 1.4, count)[:, None]
    grey = value * (1 + rng.normal(0, 0.04, (count, 3)))
    brown = value * np.array([1.0, 0.72, 0.48]) * (1 + rng.normal(0, 0.08, (count, 3)))
    bright = rng.random((count, 3)) ** 1.5
    kind = rng.choice(3, count, p=[0.45, 0.25, 0.3])[:, None]
    return np.clip(np.choose(kind, [grey, brown, bright]), 0.02, 0.98)


def lattice(cells: Ints, seed: Ints) -> F32:
    """A random number 0 to 1 for each cell (N, 2) of a grid with a seed (N,); the same for the same cell."""
    mixed = (cells[:, 0] * 73856093) ^ (cells[:, 1] * 19349663) ^ (seed * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return np.asarray(((mixed ^ (mixed >> 16)) & 0xFFFF) / np.float32(0xFFFF), np.float32)


def noise(places: F32, seed: Ints) -> F32:
    """Smooth noise 0 to 1 with a period of about one, at places (N, 2)."""
    cells = np.floor(places).astype(np.int64)
    x, y = (places - cells).T
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    a, b, c, d = (lattice(cells + corner, seed) for corner in ([0, 0], [1, 0], [0, 1], [1, 1]))
    return np.asarray((a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y, np.float32)


def _grain(places: F32, seed: Ints) -> F32:
    return 0.6 * noise(places * np.float32([4, 0.3]), seed) + 0.4 * noise(places * np.float32([11, 0.8]), seed + 1)


def _stripes(places: F32, seed: Ints) -> F32:
    width = 0.2 + 0.6 * lattice(np.zeros((len(places), 2), np.int64), seed)
    return (places[:, 0] % 1 < width).astype(np.float32)


def _checks(places: F32, seed: Ints) -> F32:
    return ((places[:, 0] % 1 < 0.5) ^ (places[:, 1] % 1 < 0.5)).astype(np.float32)


def _print(places: F32, seed: Ints) -> F32:
    fine = places * np.float32([5, 2])
    cells = np.floor(fine).astype(np.int64)
    letters = lattice(cells, seed) < 0.62
    inside = (fine[:, 1] % 1 < 0.55) & (fine[:, 0] % 1 < 0.85)
    block = lattice(np.floor(places * np.float32([0.25, 0.2])).astype(np.int64), seed + 3) < 0.6
    return (letters & inside & block).astype(np.float32)


def _blotches(places: F32, seed: Ints) -> F32:
    rough = noise(places * 0.7, seed) + 0.5 * noise(places * 2.1, seed + 1)
    return (np.floor(rough * 5) % 2).astype(np.float32) * 0.7 + 0.3 * lattice(np.floor(places).astype(np.int64), seed)


def _speckle(places: F32, seed: Ints) -> F32:
    return lattice(np.floor(places * 2).astype(np.int64), seed)


_PATTERNS = {
    Pattern.GRAIN: _grain,
    Pattern.STRIPES: _stripes,
    Pattern.CHECKS: _checks,
    Pattern.PRINT: _print,
    Pattern.BLOTCHES: _blotches,
    Pattern.SPECKLE: _speckle,
}
