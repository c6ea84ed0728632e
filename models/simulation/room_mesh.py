# SPDX-License-Identifier: Apache-2.0
"""Triangles of a whole room for ray casting, with what each face belongs to and how it is painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.raycast import RayCaster
from perception_models.simulation.shapes import Material, Mesh

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Thing:
    """A mesh in the world; `instance` 0 is the building, things that a user could name count from 1."""

    mesh: Mesh
    instance: int


@dataclass(frozen=True)
class RoomMesh:
    """Faces (F,): normal (F, 3), instance, surface (a number for each material of each instance), corner (F, 3),
    two directions (F, 3) along which textures run, and whether it is dark or shiny to a depth camera."""

    caster: RayCaster
    normals: F32
    instances: NDArray[np.int32]
    surfaces: NDArray[np.int64]
    axes: tuple[F32, F32]
    swallows: NDArray[np.bool_]
    surface_count: int


def assemble(things: Sequence[Thing]) -> RoomMesh:
    """Put things together; must not be empty."""
    counts = [len(thing.mesh.faces) for thing in things]
    offsets = np.cumsum([0] + [len(thing.mesh.vertices) for thing in things[:-1]]).astype(np.int32)
    vertices = np.concatenate([thing.mesh.vertices for thing in things])
    faces = np.concatenate([thing.mesh.faces for thing in things]) + np.repeat(offsets, counts)[:, None]
    materials = np.concatenate([thing.mesh.materials for thing in things]).astype(np.int64)
    instances = np.repeat(np.array([thing.instance for thing in things], np.int32), counts)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    _, surfaces = np.unique(instances.astype(np.int64) * len(Material) + materials, return_inverse=True)
    swallows = np.isin(materials, [Material.GLASS, Material.INTERIOR])
    return RoomMesh(
        RayCaster(vertices, faces.astype(np.int32)),
        normals,
        instances,
        surfaces.ravel(),
        _texture_axes(normals),
        swallows,
        int(surfaces.max()) + 1,
    )


def _texture_axes(normals: F32) -> tuple[F32, F32]:
    """Two directions in the plane of each face: level and upright on walls, along x and y on floors."""
    flat = np.abs(normals[:, 2]) > 0.9
    level = np.stack([-normals[:, 1], normals[:, 0], np.zeros(len(normals))], axis=1)
    level[flat] = [1, 0, 0]
    level /= np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-9)
    return level.astype(np.float32), np.cross(normals, level).astype(np.float32)
