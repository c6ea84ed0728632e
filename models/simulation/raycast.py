# SPDX-License-Identifier: Apache-2.0
"""Nearest hit of rays with triangles, by Embree (the one place that knows the ray caster)."""

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hits:
    """Where rays met a surface; `face` is -1 and `distance` infinite where they met none."""

    distance: NDArray[np.float32]  # (N,) m along the unit direction
    face: NDArray[np.int32]  # (N,)


class RayCaster:
    """Triangles that rays can be cast at."""

    def __init__(self, vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
        """Take vertices (V, 3) in metres and faces (F, 3)."""
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, vertices.astype(np.float32), faces.astype(np.int32))

    def cast(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        """Cast rays from origins (N, 3) along unit directions (N, 3)."""
        hit = self._scene.run(origins, directions, query="INTERSECT", output=True)
        face = hit["primID"]
        return Hits(np.where(face >= 0, hit["tfar"], np.inf).astype(np.float32), face)
