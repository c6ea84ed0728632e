# SPDX-License-Identifier: Apache-2.0
"""Triangles of a whole room for ray casting, with what each face belongs to and where it is on its texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.raycast import RayCaster
from perception_models.simulation.shapes import Material, Mesh

F32 = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Skin:
    """The paint that a model brings along: uv (F, 3, 2) of each corner, in repeats of its image, y down; paint (F,):
    which of the colours (P, 3), 0 to 1 as on a screen, times images (P,), where there is one."""

    uv: F32
    paint: NDArray[np.int64]
    colours: F32
    images: tuple[Image | None, ...]


@dataclass(frozen=True)
class Thing:
    """A mesh in the world; `instance` 0 is the building, things that a user could name count from 1."""

    mesh: Mesh
    instance: int = 0
    skin: Skin | None = None

    def moved(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Thing:
        """Turned by yaw [rad] about +z, then shifted [m]."""
        return replace(self, mesh=self.mesh.moved(x, y, z, yaw))

    @property
    def size(self) -> tuple[float, float, float]:
        """Extent along x, y and z [m]."""
        return self.mesh.size


@dataclass(frozen=True)
class Surfaces:
    """What looks alike (S,): each material of each instance. `skins` has colour and image of those that bring them."""

    materials: NDArray[np.int64]
    building: NDArray[np.bool_]
    skins: dict[int, tuple[F32, Image | None]]


@dataclass(frozen=True)
class RoomMesh:
    """Faces (F,): unit normal (F, 3), instance, surface; texture_map (F, 2, 4), which takes points [x y z 1] to their
    place on the surface (in metres, or in repeats of a skin); whether a depth camera's light does not come back."""

    caster: RayCaster
    vertices: F32
    faces: NDArray[np.int32]
    normals: F32
    instances: NDArray[np.int32]
    surface: NDArray[np.int64]
    texture_map: F32
    swallows: NDArray[np.bool_]
    surfaces: Surfaces


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
    surface, surfaces = _surfaces(things, instances, materials)
    texture_map = _texture_axes(normals)
    for start, thing in zip(np.cumsum([0, *counts]), things, strict=False):
        if thing.skin is not None:
            own = slice(start, start + len(thing.mesh.faces))
            texture_map[own] = _skin_map(corners[own], thing.skin.uv)
    return RoomMesh(
        RayCaster(vertices, faces.astype(np.int32)),
        vertices,
        faces.astype(np.int32),
        normals,
        instances,
        surface,
        texture_map,
        np.isin(materials, [Material.GLASS, Material.INTERIOR]),
        surfaces,
    )


def _surfaces(
    things: Sequence[Thing], instances: NDArray[np.int32], materials: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Surfaces]:
    """The surface (F,) of each face, and what surfaces there are."""
    paints = [np.zeros(len(t.mesh.faces), np.int64) if t.skin is None else 1 + t.skin.paint for t in things]
    keys = np.stack([instances, np.concatenate(paints), materials], axis=1).astype(np.int64)
    keys[keys[:, 1] > 0, 2] = 0  # paint decides alone how a skin looks
    span = keys.max(axis=0) + 1
    packed, surface = np.unique(np.ravel_multi_index(tuple(keys.T), tuple(span)), return_inverse=True)
    kinds = np.stack(np.unravel_index(packed, tuple(span)), axis=1)
    skins = {thing.instance: thing.skin for thing in things if thing.skin is not None}
    painted = {
        number: (skins[instance].colours[paint - 1], skins[instance].images[paint - 1])
        for number, (instance, paint, _) in enumerate(kinds.tolist())
        if paint > 0
    }
    return surface.ravel(), Surfaces(kinds[:, 2], kinds[:, 0] == 0, painted)


def _texture_axes(normals: F32) -> F32:
    """Maps (F, 2, 4) to metres along the plane of each face: level and down on walls, along x and y on floors."""
    flat = np.abs(normals[:, 2]) > 0.9
    level = np.stack([-normals[:, 1], normals[:, 0], np.zeros(len(normals), np.float32)], axis=1)
    level[flat] = [1, 0, 0]
    level /= np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-9)
    axes = np.stack([level, np.cross(level, normals)], axis=1)
    return np.concatenate([axes, np.zeros((len(normals), 2, 1))], axis=2).astype(np.float32)


def _skin_map(corners: F32, uv: F32) -> F32:
    """Maps (F, 2, 4) that take the corners (F, 3, 3) of faces to their uv (F, 3, 2)."""
    first, second = (corners[:, k].astype(np.float64) - corners[:, 0] for k in (1, 2))
    normal = np.cross(first, second)
    square = np.maximum(np.einsum("fi,fi->f", normal, normal), 1e-18)[:, None]
    duals = np.stack([np.cross(second, normal), np.cross(normal, first)], axis=1) / square[:, None]
    slope = np.einsum("fki,fkj->fij", uv[:, 1:] - uv[:, :1], duals)
    offset = uv[:, 0] - np.einsum("fij,fj->fi", slope, corners[:, 0])
    return np.concatenate([slope, offset[..., None]], axis=2).astype(np.float32)
