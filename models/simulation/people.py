# SPDX-License-Identifier: Apache-2.0
"""Pedestrians and cyclists of capsules and ellipsoids."""

import numpy as np
from numpy.typing import NDArray

from perception_models.classes import CYCLIST, PEDESTRIAN
from perception_models.simulation.actors import ActorModel
from perception_models.simulation.shapes import Material, Mesh, box, ellipsoid, merge, tube

Rng = np.random.Generator
Vector = NDArray[np.float64]


def _limb(points: list[list[float]], radii: list[float], material: Material) -> list[Mesh]:
    return [tube(a, b, ra, rb, material, 6) for a, b, ra, rb in zip(points, points[1:], radii, radii[1:], strict=False)]


def random_pedestrian(rng: Rng) -> ActorModel:
    """An adult or child, standing or walking, sometimes with a bag or skirt."""
    height = rng.uniform(1.0, 1.5) if rng.random() < 0.1 else float(np.clip(rng.normal(1.72, 0.09), 1.5, 1.98))
    stout = rng.uniform(0.85, 1.3)
    stride = 0.0 if rng.random() < 0.35 else rng.uniform(0.10, 0.40)
    swing = stride * rng.uniform(0.4, 1.0)
    parts = [*_torso(stout), *_legs(stride, stout), *_arms(swing, stout, rng)]
    if rng.random() < 0.25:
        parts.append(box([0.18, 0.32, 0.45], [-0.20, 0, 1.25], Material.CLOTH))
    if rng.random() < 0.2:
        parts.append(box([0.35, 0.12, 0.28], [0.0, 0.33, 0.62], Material.CLOTH))
    if rng.random() < 0.2:
        parts.append(tube([0, 0, 0.45], [0, 0, 1.0], 0.26 * stout, 0.16, Material.CLOTH))
    mesh = merge(parts).transformed(np.eye(3) * height / 1.75).grounded()
    return ActorModel(PEDESTRIAN, "pedestrian", mesh, mesh.size)


def _torso(stout: float) -> list[Mesh]:
    return [
        ellipsoid([0.13 * stout, 0.19 * stout, 0.36], [0, 0, 1.18], Material.CLOTH),
        ellipsoid([0.13 * stout, 0.17 * stout, 0.16], [0, 0, 0.92], Material.CLOTH),
        tube([0, 0, 1.42], [0.01, 0, 1.56], 0.06, 0.06, Material.SKIN, 6),
        ellipsoid([0.10, 0.08, 0.125], [0.02, 0, 1.625], Material.SKIN),
    ]


def _legs(stride: float, stout: float) -> list[Mesh]:
    parts: list[Mesh] = []
    for side, step in ((0.09, stride), (-0.09, -stride)):
        knee = [0.55 * step + 0.04 * abs(stride), side, 0.50]
        ankle = [step - 0.08 * (step < 0), side, 0.08 + 0.12 * max(-step, 0)]
        parts += _limb([[0, side, 0.92], knee, ankle], [0.085 * stout, 0.065, 0.045], Material.CLOTH)
        parts.append(box([0.26, 0.09, 0.08], [ankle[0] + 0.06, side, ankle[2] - 0.04], Material.TYRE))
    return parts


def _arms(swing: float, stout: float, rng: Rng) -> list[Mesh]:
    parts: list[Mesh] = []
    bent = rng.uniform(0.0, 0.3, 2)
    for side, step, lift in ((1, -swing, bent[0]), (-1, swing, bent[1])):
        shoulder = [0.0, side * 0.20 * stout, 1.42]
        elbow = [0.5 * step, side * 0.26 * stout, 1.14]
        hand = [step + lift, side * 0.25 * stout, 0.90 + 0.6 * lift]
        parts += _limb([shoulder, elbow, hand], [0.055, 0.045, 0.035], Material.CLOTH)
    return parts


def bicycle(rng: Rng) -> Mesh:
    """A bicycle about 1.75 m long, heading +x, standing on z = 0."""
    radius, base = rng.uniform(0.31, 0.35), rng.uniform(1.0, 1.1)
    rear, front = [-base / 2, 0.0, radius], [base / 2, 0.0, radius]
    crank, seat, head = [-0.08, 0.0, 0.28], [-0.24, 0.0, 0.92], [0.36, 0.0, 0.88]
    parts = [_rim(hub[0], radius) for hub in (rear, front)]
    for a, b in ((rear, crank), (rear, seat), (crank, seat), (crank, head), (seat, head), (front, head)):
        parts.append(tube(a, b, 0.022, 0.022, Material.METAL, 4))
    parts.append(tube([0.36, -0.28, 1.02], [0.36, 0.28, 1.02], 0.018, 0.018, Material.METAL, 4))
    parts.append(tube(head, [0.36, 0, 1.02], 0.02, 0.02, Material.METAL, 4))
    parts.append(box([0.26, 0.14, 0.06], [-0.25, 0, 0.95], Material.TYRE))
    return merge(parts)


def _rim(x: float, radius: float) -> Mesh:
    """A tyre and some spokes."""
    angle = np.linspace(0, 2 * np.pi, 13)
    points = [[x + radius * 0.95 * np.cos(a), 0.0, radius * (1 + 0.95 * np.sin(a))] for a in angle]
    parts = [tube(a, b, 0.02, 0.02, Material.TYRE, 4) for a, b in zip(points, points[1:], strict=False)]
    parts += [tube(points[k], points[k + 6], 0.008, 0.008, Material.METAL, 3) for k in range(0, 6, 2)]
    return merge(parts)


def random_cyclist(rng: Rng) -> ActorModel:
    """A bicycle with its rider."""
    lean = rng.uniform(0.05, 0.35)
    shoulder = [-0.20 + 0.55 * np.sin(lean) + 0.08, 0.0, 0.98 + 0.50 * np.cos(lean)]
    pedal = rng.uniform(0, np.pi)
    parts = [bicycle(rng)]
    parts += _limb([[-0.22, 0, 0.98], shoulder], [0.17, 0.19], Material.CLOTH)
    parts.append(ellipsoid([0.11, 0.09, 0.13], [shoulder[0] + 0.06, 0, shoulder[2] + 0.24], Material.SKIN))
    for side, phase in ((1, pedal), (-1, pedal + np.pi)):
        foot = [-0.08 + 0.17 * np.cos(phase), side * 0.12, 0.28 + 0.17 * np.sin(phase)]
        knee = [foot[0] * 0.3 + 0.22, side * 0.13, foot[2] * 0.5 + 0.50]
        parts += _limb([[-0.22, side * 0.1, 0.95], knee, foot], [0.09, 0.07, 0.045], Material.CLOTH)
        reach = [shoulder[0], side * 0.19, shoulder[2] - 0.05]
        parts += _limb(
            [reach, [(reach[0] + 0.36) / 2, side * 0.28, 1.12], [0.36, side * 0.25, 1.04]],
            [0.055, 0.045, 0.035],
            Material.CLOTH,
        )
    if rng.random() < 0.2:
        parts.append(box([0.25, 0.3, 0.3], [-0.55, 0, 0.85], Material.CLOTH))
    mesh = merge(parts).transformed(np.eye(3) * rng.uniform(0.92, 1.06)).grounded()
    return ActorModel(CYCLIST, "cyclist", mesh, mesh.size)
