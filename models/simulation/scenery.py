# SPDX-License-Identifier: Apache-2.0
"""Street furniture, walls and odd things: what stands beside a road and is taken for a vehicle or a person.

Each function gives a mesh standing on z = 0 about its origin; long things run along x.
"""

import numpy as np

from perception_models.simulation.people import bicycle
from perception_models.simulation.shapes import Material, Mesh, box, ellipsoid, merge, tube
from perception_models.simulation.vegetation import bush, conifer, shrub_bed, tree

Rng = np.random.Generator


def pole(rng: Rng) -> Mesh:
    """Lamp post, flag pole, tram mast; sometimes with an arm."""
    height, radius = rng.uniform(3.0, 9.0), rng.uniform(0.04, 0.14)
    parts = [tube([0, 0, 0], [0, 0, height], radius, radius * 0.7, Material.METAL, 8)]
    if rng.random() < 0.5:
        parts.append(tube([0, 0, height], [0, -rng.uniform(0.8, 2.5), height + 0.2], 0.05, 0.04, Material.METAL, 5))
    if rng.random() < 0.3:
        parts.append(box([0.35, 0.25, 0.9], [0, 0, 1.0], Material.METAL))
    return merge(parts)


def sign(rng: Rng) -> Mesh:
    """Traffic sign, traffic light or advertising board."""
    height, kind = rng.uniform(2.0, 3.2), rng.random()
    post = tube([0, 0, 0], [0, 0, height], 0.035, 0.035, Material.METAL, 6)
    if kind < 0.6:
        return merge(
            [
                post,
                box(
                    [rng.uniform(0.02, 0.05), rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.9)],
                    [-0.05, 0, height - 0.3],
                    Material.RETRO,
                ),
            ]
        )
    if kind < 0.85:
        return merge([post, box([0.3, 0.3, 0.9], [0, 0, height], Material.METAL)])
    return box([0.2, rng.uniform(1.0, 3.5), rng.uniform(1.5, 2.6)], [0, 0, 1.5], Material.METAL)


def wall(rng: Rng, length: float) -> Mesh:
    """Garden wall with piers."""
    height, depth = rng.uniform(0.4, 2.4), rng.uniform(0.15, 0.4)
    parts = [box([length, depth, height], [0, 0, height / 2], Material.WALL)]
    for x in np.arange(-length / 2, length / 2 + 0.1, rng.uniform(2.5, 5.0)):
        parts.append(box([0.4, depth + 0.15, height + 0.2], [x, 0, height / 2 + 0.1], Material.WALL))
    return merge(parts)


def wall_stub(rng: Rng) -> Mesh:
    """L- or U-shaped wall of a car's size: bin store, ramp, planter, loading bay."""
    length, depth, height = rng.uniform(1.5, 5.0), rng.uniform(1.0, 2.4), rng.uniform(0.6, 2.2)
    thick, material = rng.uniform(0.08, 0.35), rng.choice([Material.WALL, Material.CONCRETE, Material.METAL])
    parts = [box([length, thick, height], [0, 0, height / 2], Material(material))]
    sides = [-1, 1] if rng.random() < 0.5 else [1]
    parts += [
        box([thick, depth, height * rng.uniform(0.6, 1.0)], [s * length / 2, depth / 2, height / 2], Material(material))
        for s in sides
    ]
    return merge(parts)


def fence(rng: Rng, length: float) -> Mesh:
    """Rails, pickets or panels on posts, or a guard rail."""
    height = rng.uniform(0.7, 2.0)
    parts = [
        tube([x, 0, 0], [x, 0, height], 0.04, 0.04, Material.METAL, 4)
        for x in np.arange(-length / 2, length / 2 + 0.1, rng.uniform(1.5, 3.0))
    ]
    kind = rng.random()
    if kind < 0.35:
        parts += [
            box([length, 0.04, 0.08], [0, 0, z], Material.METAL)
            for z in np.linspace(0.25, height - 0.05, rng.integers(2, 6))
        ]
    elif kind < 0.65:
        step = rng.uniform(0.12, 0.3)
        parts += [
            box([step * rng.uniform(0.25, 0.5), 0.03, height - 0.1], [x, 0, height / 2], Material.BARK)
            for x in np.arange(-length / 2, length / 2, step * 1.4)
        ]
    elif kind < 0.85:
        parts.append(box([length, 0.03, height - 0.1], [0, 0, height / 2], Material.BARK))
    else:
        parts.append(box([length, 0.08, 0.32], [0, 0, 0.6], Material.METAL))
    return merge(parts)


def canopy(rng: Rng) -> Mesh:
    """Roof on columns with tables and chairs, or a bus shelter, or market stall."""
    length, depth, height = rng.uniform(2.5, 8.0), rng.uniform(1.4, 4.0), rng.uniform(2.2, 3.2)
    parts = [box([length, depth, 0.12], [0, 0, height], Material.CLOTH)]
    parts += [
        tube([x, y, 0], [x, y, height], 0.05, 0.05, Material.METAL, 5)
        for x in (-length / 2.1, length / 2.1)
        for y in (-depth / 2.2, depth / 2.2)
    ]
    if rng.random() < 0.5:
        parts.append(box([length, 0.02, height - 0.3], [0, depth / 2.2, height / 2], Material.GLASS))
    for _ in range(rng.integers(2, 9)):
        parts.append(_table(rng).moved(rng.uniform(-0.45, 0.45) * length, rng.uniform(-0.4, 0.4) * depth))
    return merge(parts)


def _table(rng: Rng) -> Mesh:
    parts = [
        box([0.7, 0.7, 0.04], [0, 0, 0.74], Material.BARK),
        tube([0, 0, 0], [0, 0, 0.74], 0.04, 0.04, Material.METAL, 4),
    ]
    for angle in rng.uniform(0, 2 * np.pi, rng.integers(1, 4)):
        x, y = 0.65 * np.cos(angle), 0.65 * np.sin(angle)
        parts.append(
            merge(
                [
                    box([0.4, 0.4, 0.05], [x, y, 0.45], Material.BARK),
                    box([0.06, 0.4, 0.45], [x * 1.3, y * 1.3, 0.68], Material.BARK),
                ]
            )
        )
    return merge(parts)


def kiosk(rng: Rng) -> Mesh:
    """Booth, shed, container or transformer box."""
    size = [rng.uniform(0.6, 6.0), rng.uniform(0.5, 2.6), rng.uniform(0.9, 2.8)]
    material = Material(rng.choice([Material.METAL, Material.WALL, Material.BARK]))
    parts = [box(size, [0, 0, size[2] / 2], material)]
    if size[2] > 1.8:
        parts.append(box([size[0] + 0.4, size[1] + 0.4, 0.1], [0, 0, size[2]], material))
    return merge(parts)


def wheeled_bins(rng: Rng) -> Mesh:
    """Wheeled bins, alone or in a row."""
    count = int(rng.integers(1, 5))
    height, width = rng.uniform(0.9, 1.3), rng.uniform(0.5, 1.2)
    return merge(
        [
            box(
                [width * 0.9, rng.uniform(0.5, 0.9), height],
                [k * width * 1.1, rng.normal(0, 0.08), height / 2],
                Material.PAINT,
            )
            for k in range(count)
        ]
    )


def bollards(rng: Rng) -> Mesh:
    """A row of bollards, posts or short columns: as tall as a person's chest, and the commonest thing taken for one."""
    height, step = rng.uniform(0.5, 1.4), rng.uniform(1.2, 3.0)
    radius = rng.uniform(0.03, 0.09) if rng.random() < 0.7 else rng.uniform(0.09, 0.2)
    posts = range(rng.integers(1, 7))
    return merge([tube([k * step, 0, 0], [k * step, 0, height], radius, radius, Material.CONCRETE, 6) for k in posts])


def column(rng: Rng) -> Mesh:
    """Thick column, advertising pillar or chimney-like shaft."""
    radius, height = rng.uniform(0.25, 0.8), rng.uniform(2.0, 4.0)
    return tube([0, 0, 0], [0, 0, height], radius, radius, Material.CONCRETE, 10)


def fragments(rng: Rng) -> Mesh:
    """Loose panels and blocks in a heap of up to a car's size."""
    parts = []
    for _ in range(rng.integers(2, 10)):
        size = rng.uniform([0.1, 0.05, 0.1], [1.6, 0.9, 1.1])
        x, y = rng.normal(0, 0.9, 2)
        raised = rng.uniform(0, 0.6) * (rng.random() < 0.3)
        material = Material(rng.choice([Material.METAL, Material.WALL, Material.BARK]))
        parts.append(box(size, [0, 0, 0], material).moved(x, y, size[2] / 2 + raised, rng.uniform(0, np.pi)))
    return merge(parts)


def parked_bicycles(rng: Rng) -> Mesh:
    """Bicycles in a rack, without riders."""
    count, step = int(rng.integers(1, 8)), rng.uniform(0.35, 0.8)
    return merge([bicycle(rng).moved(0, k * step, 0, rng.normal(0, 0.1)) for k in range(count)])


def motorcycle(rng: Rng) -> Mesh:
    """Parked motorcycle or scooter."""
    parts = [tube([x, -0.06, 0.3], [x, 0.06, 0.3], 0.3, 0.3, Material.TYRE, 10) for x in (-0.65, 0.65)]
    parts.append(ellipsoid([0.55, 0.2, 0.25], [0, 0, 0.62], Material.PAINT))
    parts.append(box([0.5, 0.26, 0.12], [-0.4, 0, 0.85], Material.TYRE))
    parts.append(box([0.12, 0.6, 0.3], [0.5, 0, 0.98], Material.PAINT))
    return merge(parts).moved(yaw=rng.normal(0, 0.1))


def trailer(rng: Rng) -> Mesh:
    """Small open trailer with a drawbar."""
    length, width = rng.uniform(1.6, 3.2), rng.uniform(1.1, 1.8)
    parts = [
        box([length, width, 0.06], [0, 0, 0.5], Material.METAL),
        box([1.2, 0.08, 0.08], [length / 2 + 0.6, 0, 0.45], Material.METAL),
    ]
    parts += [box([length, 0.04, 0.4], [0, s * width / 2, 0.72], Material.METAL) for s in (-1, 1)]
    parts += [
        tube([0, s * width * 0.52, 0.28], [0, s * width * 0.6, 0.28], 0.28, 0.28, Material.TYRE, 10) for s in (-1, 1)
    ]
    return merge(parts)


CLUTTER = (
    tree,
    tree,
    tree,
    conifer,
    bush,
    bush,
    bush,
    shrub_bed,
    pole,
    pole,
    sign,
    sign,
    wall_stub,
    wall_stub,
    canopy,
    kiosk,
    wheeled_bins,
    bollards,
    column,
    fragments,
    parked_bicycles,
    motorcycle,
    trailer,
)
