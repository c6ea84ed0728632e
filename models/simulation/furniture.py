# SPDX-License-Identifier: Apache-2.0
"""Procedural things of a room, each a mesh that stands on z = 0, centred over the origin, with its back to -x."""

from collections.abc import Callable, Sequence

import numpy as np

from perception_models.simulation.shapes import Material, Mesh, box, ellipsoid, leaves, merge, surface, tube

Rng = np.random.Generator
Maker = Callable[[Rng], Mesh]
WOOD, CLOTH, METAL, DARK = Material.PAINT, Material.CLOTH, Material.METAL, Material.INTERIOR


def slab(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], material: Material) -> Mesh:
    """Cuboid between limits along each axis [m]."""
    low, high = np.array([x[0], y[0], z[0]]), np.array([x[1], y[1], z[1]])
    return box(high - low, (low + high) / 2, material)


def table(rng: Rng) -> Mesh:
    """A table or desk, sometimes with a chest of drawers under it."""
    depth, width, height = rng.uniform(0.5, 1.0), rng.uniform(0.7, 2.0), rng.uniform(0.45, 0.8)
    x, y, leg = depth / 2, width / 2, rng.uniform(0.02, 0.06)
    parts = [slab((-x, x), (-y, y), (height - rng.uniform(0.02, 0.05), height), WOOD)]
    for a in (-x, x - leg):
        parts += [slab((a, a + leg), (b, b + leg), (0, height), METAL) for b in (-y, y - leg)]
    if rng.random() < 0.4:
        parts.append(slab((-x + 0.05, x - 0.05), (y - 0.45, y - 0.05), (0.03, height - 0.08), WOOD))
    return merge(parts)


def chair(rng: Rng) -> Mesh:
    """A chair with four legs, or an office chair on a foot."""
    seat, height, size = rng.uniform(0.42, 0.48), rng.uniform(0.75, 1.1), rng.uniform(0.38, 0.5)
    s = size / 2
    parts = [
        slab((-s, s), (-s, s), (seat - 0.05, seat), CLOTH),
        slab((-s - 0.03, -s + 0.03), (-s, s), (seat + rng.uniform(0.02, 0.15), height), CLOTH),
    ]
    if rng.random() < 0.5:
        for a in (-s, s - 0.03):
            parts += [slab((a, a + 0.03), (b, b + 0.03), (0, seat - 0.04), WOOD) for b in (-s, s - 0.03)]
        parts.append(slab((-s - 0.02, -s + 0.01), (-s, -s + 0.03), (seat, height), WOOD))
    else:
        parts.append(tube((0, 0, 0.08), (0, 0, seat), 0.03, 0.03, METAL))
        for angle in np.arange(5) * 2 * np.pi / 5:
            parts.append(tube((0, 0, 0.1), (0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.04), 0.03, 0.02, DARK, 6))
    return merge(parts)


def sofa(rng: Rng) -> Mesh:
    """A sofa or armchair with cushions."""
    depth, width = rng.uniform(0.75, 1.0), rng.choice([rng.uniform(0.75, 1.0), rng.uniform(1.5, 2.3)])
    seat, back, x, y = rng.uniform(0.38, 0.46), rng.uniform(0.7, 0.95), depth / 2, width / 2
    parts = [slab((-x, x), (-y, y), (0.06, seat - 0.1), CLOTH), slab((-x, -x + 0.22), (-y, y), (0.1, back), CLOTH)]
    parts += [slab((-x, x), (side - 0.09, side + 0.09), (0.06, rng.uniform(0.5, 0.65)), CLOTH) for side in (-y, y)]
    seats = max(1, round(width / 0.75))
    for place in (np.arange(seats) + 0.5) / seats * 2 * y - y:
        parts.append(ellipsoid((x * 0.8, y / seats, 0.11), (0.08, place, seat - 0.04), CLOTH, 10))
        if rng.random() < 0.6:
            parts.append(ellipsoid((0.1, 0.2, 0.2), (-x + 0.3, place + rng.uniform(-0.1, 0.1), seat + 0.2), CLOTH, 8))
    return merge(parts)


def bed(rng: Rng) -> Mesh:
    """A bed with pillows and a rumpled blanket."""
    length, width, height = 2.0, rng.uniform(0.9, 1.8), rng.uniform(0.4, 0.6)
    x, y = length / 2, width / 2
    ripple = rng.normal(0, 0.02, (9, 9))
    ripple[[0, -1]] = ripple[:, [0, -1]] = 0.0
    grid = np.stack(np.meshgrid(np.linspace(-x + 0.5, x, 9), np.linspace(-y, y, 9), indexing="ij"), -1)
    blanket = np.concatenate([grid, (height + 0.05 + ripple)[..., None]], axis=-1)
    parts = [
        slab((-x, x), (-y, y), (0.1, height), WOOD),
        slab((-x - 0.05, -x), (-y, y), (0, height + rng.uniform(0.2, 0.6)), WOOD),
        surface(blanket, CLOTH),
        ellipsoid((0.2, min(0.35, y * 0.8), 0.09), (-x + 0.28, 0.0, height + 0.08), CLOTH, 10),
    ]
    return merge(parts)


def shelf(rng: Rng) -> Mesh:
    """A shelf with books and boxes on its boards."""
    depth, width, height = rng.uniform(0.25, 0.4), rng.uniform(0.6, 1.6), rng.uniform(0.8, 2.1)
    x, y, boards = depth / 2, width / 2, int(rng.integers(3, 7))
    parts = [slab((-x, -x + 0.02), (-y, y), (0, height), WOOD)]
    parts += [slab((-x, x), (side - 0.01, side + 0.01), (0, height), WOOD) for side in (-y, y)]
    levels = np.linspace(0.05, height - 0.02, boards)
    parts += [slab((-x, x), (-y, y), (level, level + 0.02), WOOD) for level in levels]
    for level, above in zip(levels[:-1], levels[1:], strict=True):
        parts += _row(rng, x, y, level + 0.02, above - level - 0.05)
    return merge(parts)


def _row(rng: Rng, x: float, y: float, floor: float, room: float) -> list[Mesh]:
    """Books and boxes side by side on one board, with gaps."""
    parts, place = [], -y + 0.02
    colours = (Material.WALL, Material.CLOTH, Material.RETRO, Material.TYRE, Material.SKIN)
    while place < y - 0.3:
        if rng.random() < 0.2:
            place += rng.uniform(0.05, 0.3)
            continue
        wide = rng.uniform(0.015, 0.06) if rng.random() < 0.85 else rng.uniform(0.1, 0.28)
        front, high = rng.uniform(0.3, 1.0) * x, min(room, rng.uniform(0.12, 0.34))
        colour = colours[rng.integers(len(colours))]
        parts.append(slab((-x + 0.02, front), (place, place + wide), (floor, floor + high), colour))
        place += wide + 0.002
    return parts


def cupboard(rng: Rng) -> Mesh:
    """A cupboard, chest or counter with doors, gaps and handles."""
    depth, width = rng.uniform(0.35, 0.65), rng.uniform(0.6, 2.2)
    height = rng.choice([rng.uniform(0.7, 0.95), rng.uniform(1.4, 2.2)])
    x, y, doors = depth / 2, width / 2, int(rng.integers(2, 5))
    parts = [slab((-x, x - 0.02), (-y, y), (0.06, height), WOOD), slab((-x, x), (-y, y), (height, height + 0.03), DARK)]
    edges = np.linspace(-y, y, doors + 1)
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        front = x + rng.uniform(-0.003, 0.01)
        parts.append(slab((x - 0.02, front), (left + 0.004, right - 0.004), (0.08, height - 0.01), WOOD))
        parts.append(slab((front, front + 0.03), (right - 0.06, right - 0.04), (height * 0.6, height * 0.75), METAL))
    return merge(parts)


def plant(rng: Rng) -> Mesh:
    """A plant in a pot."""
    height, radius = rng.uniform(0.5, 1.5), rng.uniform(0.12, 0.2)
    pot = tube((0, 0, 0), (0, 0, 0.3), 0.8 * radius, radius, Material.CONCRETE, 10)
    size = (rng.uniform(0.2, 0.45), rng.uniform(0.2, 0.45), height / 2.2)
    return merge([pot, leaves(rng, (0, 0, 0.3 + height / 2), size, 350, 0.03)])


def floor_lamp(rng: Rng) -> Mesh:
    """A lamp on a pole."""
    height = rng.uniform(1.2, 1.8)
    foot, pole = (
        tube((0, 0, 0), (0, 0, 0.03), 0.14, 0.14, METAL, 12),
        tube((0, 0, 0), (0, 0, height), 0.012, 0.012, METAL),
    )
    return merge([foot, pole, tube((0, 0, height - 0.25), (0, 0, height), 0.2, 0.12, CLOTH, 12)])


def bin_(rng: Rng) -> Mesh:
    """A bin or bucket."""
    return tube((0, 0, 0), (0, 0, rng.uniform(0.25, 0.6)), rng.uniform(0.1, 0.16), rng.uniform(0.13, 0.2), METAL, 12)


def carton(rng: Rng) -> Mesh:
    """A box of any proportion, sometimes open."""
    size = rng.uniform(0.06, 0.4, 3)
    closed = box(size, (0, 0, size[2] / 2), WOOD)
    if size[2] < 0.15 or rng.random() < 0.7:
        return closed
    flap = slab((-size[0] / 2, size[0] / 2), (-0.005, 0.005), (0, size[1] / 2), WOOD)
    return merge([closed, flap.moved(0, size[1] / 2, size[2])])


def cup(rng: Rng) -> Mesh:
    """A cup, bowl, vase or bottle: stacked frusta."""
    radius, height = rng.uniform(0.03, 0.09), rng.uniform(0.06, 0.3)
    waist, neck = rng.uniform(0.4, 1.2) * radius, rng.uniform(0.3, 1.0) * radius
    split = rng.uniform(0.4, 0.8) * height
    return merge(
        [
            tube((0, 0, 0), (0, 0, split), radius, waist, Material.RETRO, 12),
            tube((0, 0, split), (0, 0, height), waist, neck, Material.RETRO, 12),
        ]
    )


def ball(rng: Rng) -> Mesh:
    """A ball, fruit or cushion."""
    radii = rng.uniform(0.04, 0.15) * rng.uniform(0.5, 1.0, 3)
    return ellipsoid(radii, (0, 0, radii[2]), CLOTH, 10)


def monitor(rng: Rng) -> Mesh:
    """A screen on a foot, or an open laptop."""
    width, height = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.45)
    screen = slab((-0.02, 0.02), (-width / 2, width / 2), (0.0, height), DARK)
    if rng.random() < 0.4:
        base = slab((0, 0.25), (-width / 2, width / 2), (0, 0.02), METAL)
        return merge([base, screen.transformed(_tilt(rng.uniform(-0.4, 0.0)))])
    stand = [slab((-0.09, 0.09), (-0.12, 0.12), (0, 0.015), METAL), slab((-0.03, 0.0), (-0.03, 0.03), (0, 0.2), METAL)]
    return merge([*stand, screen.moved(z=rng.uniform(0.06, 0.15))])


def books(rng: Rng) -> Mesh:
    """A pile of books or papers."""
    parts, height = [], 0.0
    for colour in rng.permutation([Material.WALL, Material.RETRO, Material.SKIN, Material.CLOTH])[: rng.integers(1, 5)]:
        size = np.array([rng.uniform(0.12, 0.24), rng.uniform(0.15, 0.32), rng.uniform(0.008, 0.05)])
        book = box(size, (0, 0, size[2] / 2), Material(int(colour)))
        parts.append(book.moved(z=height, yaw=rng.uniform(-0.4, 0.4)))
        height += size[2]
    return merge(parts)


def crumpled(rng: Rng) -> Mesh:
    """Cloth, a bag or clothes lying in folds."""
    size = rng.uniform(0.15, 0.45)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), indexing="ij"), -1)
    dome = np.maximum(0.0, 1 - (grid**2).sum(-1) / 1.6) * rng.uniform(0.1, 0.6) + np.abs(rng.normal(0, 0.06, (8, 8)))
    return surface(np.concatenate([grid, dome[..., None]], -1) * size, CLOTH)


def _tilt(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


AGAINST_WALLS: tuple[tuple[Maker, float], ...] = (
    (shelf, 3.0),
    (cupboard, 3.0),
    (sofa, 1.5),
    (bed, 1.0),
    (table, 2.0),
    (plant, 0.7),
    (floor_lamp, 0.7),
    (bin_, 0.7),
)  # with how often each is chosen
CLUTTER: tuple[tuple[Maker, float], ...] = (
    (carton, 3.0),
    (cup, 3.0),
    (books, 2.5),
    (ball, 1.0),
    (monitor, 1.5),
    (crumpled, 1.5),
)


def choose(makers: Sequence[tuple[Maker, float]], rng: Rng) -> Mesh:
    """One of the things, by their weights."""
    weights = np.array([weight for _, weight in makers])
    return makers[rng.choice(len(makers), p=weights / weights.sum())][0](rng)
