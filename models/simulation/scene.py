# SPDX-License-Identifier: Apache-2.0
"""Placed meshes put together for ray casting, with what each face is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.actors import Actor
from perception_models.simulation.raycast import RayCaster
from perception_models.simulation.shapes import Material, Mesh


@dataclass(frozen=True)
class Placed:
    """A mesh in the world. `paint` is the reflectance of its painted or clothed faces."""

    mesh: Mesh
    instance: int = -1
    paint: float = 0.3
    transmission: float = 0.5
    tint: float = 1.0  # factor on all other reflectances

    @staticmethod
    def of(actor: Actor) -> "Placed":
        """An actor at its pose."""
        return Placed(actor.model.mesh.transformed(actor.pose), actor.track_id, actor.paint, actor.transmission)


@dataclass(frozen=True)
class Scene:
    """Triangles with, per face (F,): unit normal, material, reflectance, glass transmission, track id (-1: none)."""

    caster: RayCaster
    normals: NDArray[np.float32]
    materials: NDArray[np.uint8]
    reflectance: NDArray[np.float32]
    transmission: NDArray[np.float32]
    instance: NDArray[np.int32]


# Reflectance at 905 nm per material; PAINT and CLOTH are replaced by the paint of the thing.
REFLECTANCE = np.array([0.34, 0.40, 0.45, 0.42, 0.45, 0.30, 0.35, 0.0, 0.002, 0.06, 0.0, 0.45, 1.6, 0.12], np.float32)


def assemble(things: Sequence[Placed]) -> Scene:
    """Build the scene of all things; must not be empty."""
    counts = [len(t.mesh.faces) for t in things]
    offsets = np.cumsum([0] + [len(t.mesh.vertices) for t in things[:-1]]).astype(np.int32)
    vertices = np.concatenate([t.mesh.vertices for t in things])
    faces = np.concatenate([t.mesh.faces for t in things]) + np.repeat(offsets, counts)[:, None]
    materials = np.concatenate([t.mesh.materials for t in things])
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    painted = (materials == Material.PAINT) | (materials == Material.CLOTH)
    paint, tint = (
        np.repeat(np.array([getattr(t, name) for t in things], np.float32), counts) for name in ("paint", "tint")
    )
    reflectance = np.where(painted, paint, REFLECTANCE[materials] * tint)
    transmission = np.where(
        materials == Material.GLASS,
        np.repeat(np.array([t.transmission for t in things], np.float32), counts),
        np.float32(0),
    )
    instance = np.repeat(np.array([t.instance for t in things], np.int32), counts)
    return Scene(RayCaster(vertices, faces.astype(np.int32)), normals, materials, reflectance, transmission, instance)
