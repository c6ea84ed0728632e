# SPDX-License-Identifier: Apache-2.0
"""Light in a room, and the colours that a camera makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.raycast import Hits

if TYPE_CHECKING:
    from perception_models.simulation.rooms import Room

F32 = NDArray[np.float32]
Rng = np.random.Generator
SKY = np.array([0.75, 0.82, 0.95], np.float32)  # what is seen through a window or past the walls


@dataclass(frozen=True)
class Light:
    """A lamp or window: a small source at `place` (3,) with a colour (3,), in the room's own units of brightness."""

    place: F32
    colour: F32

    @staticmethod
    def sample(rng: Rng, length: float, width: float, height: float) -> tuple[Light, ...]:
        """One to three lights."""
        count = int(rng.integers(1, 4))
        places = rng.uniform([0.3, 0.3, 0.7 * height], [length - 0.3, width - 0.3, height - 0.1], (count, 3))
        warmth = rng.uniform(0.7, 1.0, (count, 1)) ** np.array([0.0, 1.0, 2.0])
        power = rng.uniform(1.5, 4.0) / count
        colours = (power * warmth).astype(np.float32)
        return tuple(Light(a, b) for a, b in zip(places.astype(np.float32), colours, strict=True))


def shade(room: Room, origins: F32, directions: F32, hits: Hits, pixel: float) -> F32:
    """Linear colours (N, 3) of what rays (N, 3), `pixel` rad apart, met: texture, lamps, shadows, ambient light."""
    mesh, face = room.mesh, hits.face
    reach = np.where(np.isfinite(hits.distance), hits.distance, np.float32(0))
    points = origins + directions * reach[:, None]
    normals = mesh.normals[face]
    facing = np.einsum("ij,ij->i", normals, directions)
    normals = normals * -np.sign(facing)[:, None]
    # A slanted pixel covers more along one direction: half of the way to it keeps both sharpness and peace.
    spread = reach * np.float32(pixel) / np.sqrt(np.maximum(np.abs(facing), 0.05))
    light = _ambient(normals) + _direct(room, points, normals) + room.looks.glow[mesh.surface[face], None]
    return np.where((face >= 0)[:, None], room.looks.albedo(mesh, face, points, spread) * light, SKY)


def _ambient(normals: F32) -> F32:
    """Light from everywhere, a little more from above."""
    return np.asarray((0.35 + 0.12 * normals[:, 2:]) * np.ones((1, 3), np.float32), np.float32)


def _direct(room: Room, points: F32, normals: F32) -> F32:
    """Light of all sources (N, 3), zero in their shadows."""
    total = np.zeros_like(points)
    start = points + normals * np.float32(1e-3)
    for light in room.lights:
        towards = light.place - start
        distance = np.linalg.norm(towards, axis=1)
        towards /= np.maximum(distance, 1e-6)[:, None]
        cosine = np.maximum(np.einsum("ij,ij->i", normals, towards), 0)
        lit = np.flatnonzero(cosine > 0)
        blocked = room.cast(start[lit], towards[lit]).distance < distance[lit] - 0.02
        strength = np.zeros(len(points), np.float32)
        strength[lit] = np.where(blocked, np.float32(0.15), 1) * cosine[lit] / (1 + 0.35 * distance[lit] ** 2)
        total += strength[:, None] * light.colour
    return total


def develop(seen: F32, rng: Rng) -> NDArray[np.uint8]:
    """The image (H, W, 3) of linear colours (H, W, 3): exposure with error, white balance, vignetting, gamma, noise."""
    height, width = seen.shape[:2]
    x, y = np.arange(width) / width - 0.5, (np.arange(height)[:, None] - height / 2) / width
    exposure = rng.uniform(0.9, 1.1) * 0.3 / max(float(np.median(seen)), 0.02) * (1 + rng.normal(0, 0.015, 3))
    exposed = seen * ((1 - 0.4 * (x * x + y * y))[..., None] * exposure).astype(np.float32)
    shown = np.sqrt(exposed / (1 + 0.2 * exposed))  # highlights are held back, as cameras do
    noisy = shown + np.float32(0.009) * rng.standard_normal(seen.shape, np.float32)
    return np.asarray(np.clip(noisy * 255, 0, 255), np.uint8)
