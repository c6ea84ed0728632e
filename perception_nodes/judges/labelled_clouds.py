# SPDX-License-Identifier: Apache-2.0
"""Organised clouds with a label of each point, as the Object Segmentation Database has them (mOSD), one view each."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import RgbdFrame, camera_matrix, project
from perception_models.registration.cloud_format import read_bytes, read_line
from perception_models.registration.lzf import decompress
from perception_nodes.judges.segmentation_scenes import Scene

Labels = NDArray[np.uint32]
Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

HEIGHT, WIDTH = 480, 640
CAMERA = camera_matrix(525.0, WIDTH, HEIGHT)  # of all files of that database
FIELDS = "label x y z rgba"
FIRST_OBJECT = 20  # labels below are of the table, or of nothing


def labelled_clouds(folder: Path) -> Iterator[Scene]:
    """Each .pcd of a folder as a scene of one frame, its camera at the origin. Raises ValueError where there is none,
    or for one of other fields than label x y z rgba, compressed."""
    paths = sorted(folder.glob("*.pcd"))
    if not paths:
        raise ValueError(f"{folder} holds no .pcd file")
    yield from map(labelled_cloud, paths)


def labelled_cloud(path: Path) -> Scene:
    """One file; points that are not finite are left out, of the frame's depth too."""
    label, places, color = _organised(*_read(path))
    depth = np.where(np.isfinite(places[..., 2]), places[..., 2], 0).astype(np.float32)
    frame = RgbdFrame(color, depth, CAMERA, np.eye(4))
    truth = np.where(label >= FIRST_OBJECT, label, -1).astype(np.int32)
    seen = depth > 0
    return Scene(path.stem, places[seen], color[seen], truth[seen], [frame], [np.maximum(truth, 0)])


def _organised(label: Labels, places: Floats, color: Image) -> tuple[Labels, Floats, Image]:
    """The same with every point at its pixel; a file of one row holds them without order."""
    if label.shape == (HEIGHT, WIDTH):
        return label, places, color
    seen = np.isfinite(places[..., 2])
    column, row = np.rint(project(places[seen], CAMERA)).astype(int).T
    image = np.zeros((HEIGHT, WIDTH), np.uint32), np.full((HEIGHT, WIDTH, 3), np.nan, np.float32)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[0][row, column], image[1][row, column], pixels[row, column] = label[seen], places[seen], color[seen]
    return *image, pixels


def _read(path: Path) -> tuple[Labels, Floats, Image]:
    """Label (H, W), place (H, W, 3) and colour (H, W, 3) of the pixels."""
    with path.open("rb") as file:
        header: dict[str, str] = {}
        while "DATA" not in header:
            key, _, value = read_line(file).strip().partition(" ")
            header[key] = value
        if header.get("FIELDS") != FIELDS or header["DATA"] != "binary_compressed":
            raise ValueError(f"{path} is no compressed cloud with the fields {FIELDS}")
        compressed, size = struct.unpack("<II", read_bytes(file, 8))
        data = decompress(read_bytes(file, compressed), size)
    columns = np.frombuffer(data, np.uint32).reshape(5, int(header["HEIGHT"]), int(header["WIDTH"]))
    places = np.stack([column.view(np.float32) for column in columns[1:4]], axis=-1)
    color = np.stack([columns[4] >> shift & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)
    return columns[0], places, color
