# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes with a material per face, and the primitives that everything is built from."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perception_models.geometry import se3


class Material(IntEnum):
    """What a surface is made of; decides how it returns light (tables in light.py and scene.py)."""

    ASPHALT = 0
    CONCRETE = 1
    GRASS = 2
    WALL = 3
    FOLIAGE = 4
    BARK = 5
    METAL = 6
    PAINT = 7
    GLASS = 8
    TYRE = 9
    CLOTH = 10
    SKIN = 11
    RETRO = 12
    INTERIOR = 13


@dataclass(frozen=True)
class Mesh:
    """Triangles: vertices (V, 3) metres, faces (F, 3), materials (F,)."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    materials: NDArray[np.uint8]

    def transformed(self, matrix: NDArray[np.float64]) -> "Mesh":
        """Moved by a (4, 4) or scaled by a (3, 3) matrix."""
        rotation = matrix[:3, :3].astype(np.float32)
        offset = matrix[:3, 3].astype(np.float32) if matrix.shape == (4, 4) else np.zeros(3, np.float32)
        return Mesh(self.vertices @ rotation.T + offset, self.faces, self.materials)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> "Mesh":
        """Turned by yaw [rad] about +z, then shifted [m]."""
        return self.transformed(se3.from_yaw_pitch_roll(yaw, 0.0, 0.0, (x, y, z)))

    def fitted(self, length: float, width: float, height: float) -> "Mesh":
        """Scaled per axis so that it fills exactly length x width, centred, from z = 0 to height [m]."""
        scale = np.array([length, width, height], np.float32) / np.array(self.size, np.float32)
        return Mesh(np.multiply(self.grounded().vertices, scale, dtype=np.float32), self.faces, self.materials)

    def grounded(self) -> "Mesh":
        """Shifted so that it stands on z = 0, centred over the origin."""
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        base = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]], np.float32)
        return Mesh(self.vertices - base, self.faces, self.materials)

    @property
    def size(self) -> tuple[float, float, float]:
        """Extent along x, y and z [m]."""
        length, width, height = np.ptp(self.vertices, axis=0)
        return float(length), float(width), float(height)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + np.int32(o) for m, o in zip(meshes, offsets, strict=True)]),
        np.concatenate([m.materials for m in meshes]),
    )


def make(vertices: ArrayLike, faces: ArrayLike, material: Material | NDArray[np.uint8]) -> Mesh:
    """A mesh of plain arrays; one material, or one per face."""
    faces_ = np.asarray(faces, np.int32).reshape(-1, 3)
    materials = np.broadcast_to(np.asarray(material, np.uint8), (len(faces_),)).copy()
    return Mesh(np.asarray(vertices, np.float32).reshape(-1, 3), faces_, materials)


_BOX_VERTICES = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_BOX_FACES = np.array(
    [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
        [1, 7, 3],
    ]
)


def box(size: ArrayLike, centre: ArrayLike, material: Material) -> Mesh:
    """Cuboid of size (3,) about centre (3,)."""
    return make(_BOX_VERTICES * np.asarray(size) + np.asarray(centre), _BOX_FACES, material)


def surface(points: NDArray[np.float64], material: Material | NDArray[np.uint8], closed: bool = False) -> Mesh:
    """Skin over a lattice of points (R, C, 3); `closed` joins the last column to the first.

    `material` may be (R-1, C') per cell, with C' = C if closed, else C-1.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        index = np.concatenate([index, index[:, :1]], axis=1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    per_face = material if isinstance(material, Material) else np.repeat(np.asarray(material, np.uint8).reshape(-1), 2)
    return make(points.reshape(-1, 3), faces, per_face)


def fan(rim: NDArray[np.float64], material: Material) -> Mesh:
    """Lid over a closed rim (C, 3), from its mean."""
    count = len(rim)
    index = np.arange(count)
    faces = np.stack([index, (index + 1) % count, np.full(count, count)], axis=-1)
    return make(np.concatenate([rim, rim.mean(axis=0, keepdims=True)]), faces, material)


def tube(
    start: ArrayLike, end: ArrayLike, radius: float, end_radius: float, material: Material, sides: int = 8
) -> Mesh:
    """Cone frustum from start (3,) to end (3,), with lids."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    across, upward = _perpendicular(b - a)
    angle = np.arange(sides)[:, None] * (2 * np.pi / sides)
    ring = np.cos(angle) * across + np.sin(angle) * upward
    vertices = np.concatenate([a + radius * ring, b + end_radius * ring, [a, b]])
    k = np.arange(sides)
    n = (k + 1) % sides
    hub = np.full(sides, 2 * sides)
    corners = [k, n, n + sides, k, n + sides, k + sides, n, k, hub, k + sides, n + sides, hub + 1]
    return make(vertices, np.concatenate(corners).reshape(4, 3, sides).transpose(0, 2, 1), material)


def _perpendicular(axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two unit vectors (3,) at right angles to the axis and to each other."""
    x, y, z = axis / np.sqrt(axis @ axis)
    if abs(z) < 0.9:
        flat = np.hypot(x, y)
        return np.array([y, -x, 0.0]) / flat, np.array([x * z, y * z, -flat * flat]) / flat
    flat = np.hypot(y, z)
    return np.array([0.0, z, -y]) / flat, np.array([-flat * flat, x * y, x * z]) / flat


def ellipsoid(radii: ArrayLike, centre: ArrayLike, material: Material, sides: int = 8) -> Mesh:
    """Ellipsoid with semi-axes radii (3,)."""
    polar = np.linspace(0, np.pi, sides // 2 + 2)[:, None]
    azimuth = np.linspace(0, 2 * np.pi, sides, endpoint=False)[None]
    unit = np.stack(
        np.broadcast_arrays(np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)), -1
    )
    return surface(unit * np.asarray(radii) + np.asarray(centre), material, closed=True)


def leaves(rng: np.random.Generator, centre: ArrayLike, radii: ArrayLike, count: int, size: float) -> Mesh:
    """Loose triangles scattered in an ellipsoid, denser towards its skin: foliage that lets rays through."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middle = np.asarray(centre) + np.asarray(radii) * direction * rng.uniform(0.15, 1.0, (count, 1)) ** 0.5
    corners = middle[:, None] + rng.normal(scale=size, size=(count, 3, 3))
    return make(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3), Material.FOLIAGE)
