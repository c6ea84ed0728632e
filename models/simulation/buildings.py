# SPDX-License-Identifier: Apache-2.0
"""Buildings with relief in their facades, shop fronts of glass with an interior."""

import numpy as np

from perception_models.simulation.shapes import Material, Mesh, box, make, merge, tube

Rng = np.random.Generator


def building(rng: Rng, length: float) -> Mesh:
    """A building with its facade on y = 0, running along x, its depth towards +y."""
    depth, floors = rng.uniform(6.0, 12.0), int(rng.integers(1, 5))
    storey = rng.uniform(2.6, 3.6)
    height = floors * storey
    shop = rng.random() < 0.3
    recess, thick = rng.uniform(0.05, 0.4), 0.3
    body = box([length, depth, height], [0, depth / 2 + thick + 0.02, height / 2], Material.WALL)
    front = _facade(rng, length, floors, storey, recess, thick, shop)
    if shop:
        front += _shop_interior(rng, length)
        upper = box([length, depth, height - storey], [0, depth / 2 + thick, (height + storey) / 2], Material.WALL)
        ceiling = box([length, depth, 0.2], [0, depth / 2, storey], Material.WALL)
        back = box([length, 0.2, storey], [0, rng.uniform(2.0, 5.0), storey / 2], Material.WALL)
        body = merge([upper if floors > 1 else ceiling, back])
    parts = [body, *front]
    if rng.random() < 0.5:
        parts.append(_gable_roof(length, depth, height, rng.uniform(1.5, 4.0)))
    parts += _relief(rng, length, floors, storey)
    return merge(parts)


def _facade(rng: Rng, length: float, floors: int, storey: float, recess: float, thick: float, shop: bool) -> list[Mesh]:
    """Piers and sills with window panes set back between them."""
    bay = rng.uniform(1.8, 4.0)
    count = max(1, int(length / bay))
    bay = length / count
    window, sill = bay * rng.uniform(0.4, 0.8), rng.uniform(0.2, 1.1)
    parts = []
    for k in range(count + 1):
        pier = (bay - window) * (1.0 if 0 < k < count else 0.5)
        x = -length / 2 + k * bay + (0.25 * (bay - window) if k == 0 else -0.25 * (bay - window) if k == count else 0.0)
        parts.append(box([pier, thick, floors * storey], [x, thick / 2, floors * storey / 2], Material.WALL))
    for floor in range(floors):
        low = 0.15 if shop and floor == 0 else sill
        parts.append(box([length, thick, low], [0, thick / 2 + 0.01, floor * storey + low / 2], Material.WALL))
        parts.append(box([length, thick, 0.5], [0, thick / 2 + 0.01, (floor + 1) * storey - 0.25], Material.WALL))
        parts.append(
            box(
                [length, 0.02, storey - 0.5 - low],
                [0, min(recess, thick - 0.03), floor * storey + low + (storey - 0.5 - low) / 2],
                Material.GLASS,
            )
        )
    return parts


def _shop_interior(rng: Rng, length: float) -> list[Mesh]:
    parts = []
    for _ in range(int(length * rng.uniform(0.2, 0.8))):
        size = rng.uniform([0.3, 0.3, 0.4], [2.0, 0.9, 1.8])
        parts.append(
            box(size, [rng.uniform(-0.45, 0.45) * length, rng.uniform(0.8, 2.0), size[2] / 2], Material.INTERIOR)
        )
    return parts


def _relief(rng: Rng, length: float, floors: int, storey: float) -> list[Mesh]:
    """Doorsteps, balconies, pilasters, drain pipes."""
    parts = [
        box(
            [rng.uniform(1.0, 2.0), rng.uniform(0.4, 1.4), 0.3],
            [rng.uniform(-0.4, 0.4) * length, -0.4, 0.12],
            Material.CONCRETE,
        )
    ]
    for _ in range(rng.integers(0, 4)):
        x, width, out = rng.uniform(-0.42, 0.42) * length, rng.uniform(1.2, 3.0), rng.uniform(0.3, 1.3)
        floor = rng.integers(0, floors) * storey
        parts.append(box([width, out, rng.uniform(0.15, 1.1)], [x, -out / 2, floor + 0.6], Material.WALL))
    for x in rng.uniform(-0.5, 0.5, rng.integers(0, 4)) * length:
        parts.append(tube([x, -0.08, 0], [x, -0.08, floors * storey], 0.06, 0.06, Material.METAL, 5))
    return parts


def _gable_roof(length: float, depth: float, height: float, rise: float) -> Mesh:
    x, low, high, mid = length / 2 + 0.3, 0.0, depth + 0.6, depth / 2 + 0.3
    corners = [
        [-x, low, height],
        [x, low, height],
        [x, high, height],
        [-x, high, height],
        [-x, mid, height + rise],
        [x, mid, height + rise],
    ]
    return make(corners, [[0, 1, 5], [0, 5, 4], [3, 4, 5], [3, 5, 2], [0, 4, 3], [1, 2, 5]], Material.CONCRETE)
