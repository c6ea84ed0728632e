# SPDX-License-Identifier: Apache-2.0
"""Wavefront OBJ models with their paint: colours and images of the material library beside them."""

from __future__ import annotations

import posixpath
import zipfile

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.obj import material_of
from perception_models.simulation.room_mesh import Image, Skin
from perception_models.simulation.shapes import Mesh

IMAGE_SIZE = 256  # pixels that images are reduced to


def read_textured(archive: zipfile.ZipFile, path: str) -> tuple[Mesh, Skin]:
    """A model of an archive, turned from y up, front to +z, into z up, front to +x; in the units of the file.

    Raises ValueError where it has no faces or names an image that cannot be read.
    """
    vertices: list[list[str]] = []
    places: list[list[str]] = [["0", "0"]]
    corners: list[tuple[str, str, str]] = []
    paint, names, library = [], [""], ""
    for line in archive.read(path).decode("latin1").splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append(rest[:3])
        elif word == "vt":
            places.append(rest[:2])
        elif word == "mtllib":
            library = " ".join(rest)
        elif word == "usemtl":
            names.append(rest[0] if rest else "")
        elif word == "f":
            corners += [(rest[0], b, c) for b, c in zip(rest[1:], rest[2:], strict=False)]
            paint += [len(names) - 1] * (len(rest) - 2)
    if not corners:
        raise ValueError(f"{path} has no faces")
    index = np.array([[_numbers(c, len(vertices), len(places) - 1) for c in face] for face in corners], np.int64)
    uv = np.array(places, np.float32)[index[..., 1]] * [1, -1]
    mesh = Mesh(
        np.array(vertices, np.float32)[:, [2, 0, 1]],
        index[..., 0].astype(np.int32),
        np.array([material_of(name) for name in names], np.uint8)[paint],
    )
    colours, images = _library(archive, posixpath.join(posixpath.dirname(path), library), names)
    return mesh, Skin(uv.astype(np.float32), np.array(paint, np.int64), colours, images)


def _numbers(corner: str, vertices: int, places: int) -> tuple[int, int]:
    """Zero-based vertex of a corner and its row among the texture's places, 0 for none; negative ones count back."""
    vertex, place = (int(part) if part else 0 for part in (*corner.split("/"), "")[:2])
    return vertex - 1 if vertex > 0 else vertices + vertex, place if place >= 0 else places + 1 + place


def _library(
    archive: zipfile.ZipFile, path: str, names: list[str]
) -> tuple[NDArray[np.float32], tuple[Image | None, ...]]:
    """Colours (P, 3) and images (P,) of the materials named."""
    colours, files, current = {"": [0.7, 0.7, 0.7]}, {}, ""
    text = archive.read(path).decode("latin1") if path in archive.namelist() else ""
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "newmtl":
            current = rest[0] if rest else ""
        elif word == "Kd":
            colours[current] = [float(value) for value in rest[:3]]
        elif word == "map_Kd":
            files[current] = posixpath.join(posixpath.dirname(path), rest[-1])
    images = {name: _image(archive, file) for name, file in files.items() if name in names}
    # An image brings its own colours; Kd beside it is often black.
    tints = [[1.0, 1.0, 1.0] if name in images else colours.get(name, colours[""]) for name in names]
    return np.array(tints, np.float32), tuple(images.get(name) for name in names)


def _image(archive: zipfile.ZipFile, path: str) -> Image:
    if path not in archive.namelist():
        raise ValueError(f"the archive lacks the image {path}")
    image = cv2.imdecode(np.frombuffer(archive.read(path), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} cannot be read as an image")
    square = cv2.resize(image, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(square[..., ::-1], np.uint8)
