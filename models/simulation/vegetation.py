# SPDX-License-Identifier: Apache-2.0
"""Trees, shrubs and hedges of loose leaves, which let part of the rays through.

Each function gives a mesh standing on z = 0 about its origin; long things run along x.
"""

import numpy as np

from perception_models.simulation.shapes import Material, Mesh, box, leaves, merge, surface, tube

Rng = np.random.Generator


def tree(rng: Rng) -> Mesh:
    """Broad-leaved tree or conifer, 3 to 14 m."""
    height = rng.uniform(3.0, 12.0)
    trunk, radius = height * rng.uniform(0.18, 0.45), rng.uniform(0.02, 0.035) * height * 0.8 + 0.04
    parts = [
        tube(
            [0, 0, -0.2],
            [rng.normal(0, 0.1), rng.normal(0, 0.1), trunk + 0.25 * height],
            radius,
            radius * 0.6,
            Material.BARK,
            7,
        )
    ]
    spread = height * rng.uniform(0.16, 0.36)
    for _ in range(rng.integers(1, 5)):
        centre = [
            rng.normal(0, 0.3 * spread),
            rng.normal(0, 0.3 * spread),
            rng.uniform(trunk + 0.2 * height, 0.92 * height),
        ]
        parts.append(
            leaves(
                rng,
                centre,
                [spread, spread, 0.25 * height * rng.uniform(0.7, 1.4)],
                int(rng.integers(70, 190)),
                rng.uniform(0.12, 0.28),
            )
        )
    return merge(parts)


def conifer(rng: Rng) -> Mesh:
    """Cone of foliage down to the ground."""
    height, spread = rng.uniform(1.5, 9.0), rng.uniform(0.5, 1.8)
    parts = [tube([0, 0, 0], [0, 0, height * 0.8], 0.12, 0.04, Material.BARK, 5)]
    for level in np.linspace(0.1, 0.95, 5):
        reach = spread * (1.05 - level)
        parts.append(
            leaves(rng, [0, 0, level * height], [reach, reach, 0.14 * height], int(40 + 60 * (1 - level)), 0.14)
        )
    return merge(parts)


def bush(rng: Rng) -> Mesh:
    """Round shrub, 0.4 to 2 m high, often the size of a car's end."""
    radius, height = rng.uniform(0.3, 1.3), rng.uniform(0.4, 2.0)
    return leaves(
        rng,
        [0, 0, height * 0.5],
        [radius, radius * rng.uniform(0.6, 1.2), height * 0.5],
        int(60 + 110 * radius),
        rng.uniform(0.06, 0.16),
    )


def hedge(rng: Rng, length: float) -> Mesh:
    """Clipped hedge: a rough box of foliage with loose leaves."""
    height, depth = rng.uniform(0.6, 2.2), rng.uniform(0.4, 1.3)
    steps = max(3, int(length / 0.5))
    profile = np.array([[-0.5, 0], [-0.5, 0.6], [-0.42, 0.95], [0, 1.0], [0.42, 0.95], [0.5, 0.6], [0.5, 0]]) * [
        depth,
        height,
    ]
    x = np.linspace(-length / 2, length / 2, steps)
    points = np.stack(
        [np.broadcast_to(x[:, None], (steps, 7)), *(np.broadcast_to(profile[:, k], (steps, 7)) for k in (0, 1))],
        axis=-1,
    )
    points = points + rng.normal(0, 0.05, points.shape)
    core = surface(points, Material.FOLIAGE)
    ends = [
        box([0.05, depth * 0.9, height * 0.9], [s * length / 2, 0, height * 0.45], Material.FOLIAGE) for s in (-1, 1)
    ]
    loose = leaves(rng, [0, 0, height * 0.6], [length / 2, depth * 0.6, height * 0.55], int(14 * length), 0.08)
    return merge([core, *ends, loose])


def shrub_bed(rng: Rng) -> Mesh:
    """Low planting in a bed with a rim."""
    length, width = rng.uniform(2.0, 7.0), rng.uniform(0.8, 2.5)
    parts = [box([length, width, 0.3], [0, 0, 0.12], Material.CONCRETE)]
    for _ in range(int(length * width * 0.5) + 2):
        at = [rng.uniform(-0.45, 0.45) * length, rng.uniform(-0.4, 0.4) * width, rng.uniform(0.4, 0.7)]
        parts.append(leaves(rng, at, [0.5, 0.4, rng.uniform(0.2, 0.6)], 40, 0.08))
    return merge(parts)


GREENERY = (tree, tree, tree, conifer, bush, bush, shrub_bed)
