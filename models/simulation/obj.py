# SPDX-License-Identifier: Apache-2.0
"""Wavefront OBJ models as meshes: reading, materials by name, and merging of fine detail."""

import re
import zipfile
from pathlib import Path

import numpy as np

from perception_models.simulation.shapes import Material, Mesh

# The first pattern found in the name of an OBJ material decides.
_MATERIALS = (
    (r"light|faro|reflect|plate|plaque", Material.RETRO),
    (r"glass|cristal|window|vitre", Material.GLASS),
    (r"tire|tyre|rubber|neum", Material.TYRE),
    (r"skin|face|hand|head|arm", Material.SKIN),
    (r"interior|inside|seat|asiento|floor|steer", Material.INTERIOR),
    (r"chrome|metal|alumin|wheel|llanta", Material.METAL),
    (r"black|dark|plastic|hole|lowpart", Material.INTERIOR),
    (r"leaf|leaves|grass", Material.FOLIAGE),
)


def material_of(name: str) -> Material:
    """What an OBJ material of this name is made of; paint or cloth if nothing tells."""
    lower = name.lower()
    return next((material for pattern, material in _MATERIALS if re.search(pattern, lower)), Material.PAINT)


def read_obj(archive: Path, path: str) -> Mesh:
    """A model inside a zip archive, turned from y up, front to +z, into z up, front to +x; in the units of the file."""
    with zipfile.ZipFile(archive) as opened:
        text = opened.read(path).decode("latin1")
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    materials: list[Material] = []
    current = Material.PAINT
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(v) for v in rest[:3]])
        elif word == "usemtl":
            current = material_of(" ".join(rest))
        elif word == "f":
            corners = [_index(corner, len(vertices)) for corner in rest]
            faces += [(corners[0], b, c) for b, c in zip(corners[1:], corners[2:], strict=False)]
            materials += [current] * (len(corners) - 2)
    y_up = np.array(vertices, np.float32)
    return Mesh(y_up[:, [2, 0, 1]], np.array(faces, np.int32), np.array(materials, np.uint8))


def _index(corner: str, count: int) -> int:
    """Zero-based vertex of a face corner; negative numbers count from the last vertex read."""
    number = int(corner.split("/")[0])
    return number - 1 if number > 0 else count + number


def cluster(mesh: Mesh, cell: float) -> Mesh:
    """Merge all vertices of a cell [m] into their mean, and drop what collapses."""
    used = np.unique(mesh.faces)
    _, group, count = np.unique(
        np.floor(mesh.vertices[used] / cell).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    middle = np.zeros((len(count), 3))
    np.add.at(middle, group.ravel(), mesh.vertices[used])
    target = np.zeros(len(mesh.vertices), np.int32)
    target[used] = group.ravel()
    faces = target[mesh.faces]
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    keep = first[(np.diff(np.sort(faces[first], axis=1), axis=1) > 0).all(axis=1)]
    return Mesh((middle / count[:, None]).astype(np.float32), faces[keep], mesh.materials[keep])
