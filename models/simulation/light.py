# SPDX-License-Identifier: Apache-2.0
"""What a ray meets: nearest surface, what lies behind glass, and how much light comes back."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.scene import Scene

F32 = NDArray[np.float32]
Rng = np.random.Generator

# Per material: how fast the return fades with incidence (exponent of the cosine) and roughness of the surface [m].
_FADE = np.array([0.5, 0.5, 0.4, 0.7, 0.3, 0.5, 0.9, 1.0, 5.0, 0.6, 0.5, 0.5, 0.2, 0.6], np.float32)
ROUGHNESS = np.array(
    [0.003, 0.003, 0.015, 0.005, 0.02, 0.008, 0.003, 0.003, 0.003, 0.004, 0.008, 0.005, 0.003, 0.01], np.float32
)
_GLASS_PASSES = 3
_PANE = 0.7  # share of the light that is left after passing panes, there and back


@dataclass(frozen=True)
class SurfaceHits:
    """The surface that each of N rays met, all (N,)."""

    distance: F32  # m, infinite where there is none
    cosine: F32  # of the angle of incidence; -1: the ray goes on through glass
    material: NDArray[np.uint8]
    reflectance: F32
    instance: NDArray[np.int32]  # track id, -1 for the static world


def first_opaque(scenes: Sequence[Scene], origins: F32, directions: F32, rng: Rng) -> SurfaceHits:
    """Nearest surface of each ray (N, 3) from origins (N, 3) in the world, also behind glass that lets it through."""
    met = _nearest(scenes, origins, directions, rng)
    travelled = met.distance
    for _ in range(_GLASS_PASSES):
        through = np.flatnonzero(met.cosine < 0)
        if len(through) == 0:
            break
        step = travelled[through] + np.float32(0.004)
        behind = _nearest(scenes, origins[through] + directions[through] * step[:, None], directions[through], rng)
        travelled[through] = step + behind.distance
        met.cosine[through] = behind.cosine
        met.material[through] = behind.material
        met.reflectance[through] = _PANE * behind.reflectance
        met.instance[through] = behind.instance
    travelled[met.cosine < 0] = np.inf
    return met


def _nearest(scenes: Sequence[Scene], origins: F32, directions: F32, rng: Rng) -> SurfaceHits:
    """Nearest hit over all scenes; the cosine is -1 where the ray goes on through glass."""
    count = len(origins)
    met = SurfaceHits(
        np.full(count, np.inf, np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, np.uint8),
        np.zeros(count, np.float32),
        np.full(count, -1, np.int32),
    )
    for scene in scenes:
        hits = scene.caster.cast(origins, directions)
        near = np.flatnonzero(hits.distance < met.distance)
        face = hits.face[near]
        met.distance[near] = hits.distance[near]
        cosine = np.abs(np.einsum("ij,ij->i", scene.normals[face], directions[near]))
        glass = scene.transmission[face]
        met.cosine[near] = np.where((glass > 0) & (rng.random(len(near), np.float32) < glass), np.float32(-1), cosine)
        met.material[near] = scene.materials[face]
        met.reflectance[near] = scene.reflectance[face]
        met.instance[near] = scene.instance[face]
    return met


def signal(reflectance: F32, cosine: F32, material: NDArray[np.uint8]) -> F32:
    """Strength of the return at unit range: reflectance faded with incidence."""
    return np.asarray(reflectance * np.maximum(cosine, 0.01) ** _FADE[material], np.float32)


def return_probability(strength: F32, distance: F32, threshold: float) -> F32:
    """Chance that a return of this strength is detected at this distance [m]; falls with the squared distance."""
    received = strength * (50.0 / distance) ** 2
    return np.asarray(0.99 / (1.0 + (threshold / np.maximum(received, 1e-6)) ** 2), np.float32)
