# SPDX-License-Identifier: Apache-2.0
"""Clouds of points from and to files: .pcd (version 0.7: ascii, binary), .ply (ascii, binary), .npy and .bin (KITTI).

A .ply that we write also says from where its points were seen, as an element `viewpoint` that other readers skip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


class CloudFile(NamedTuple):
    """points (N, 3) float32 m, and viewpoints (V, 3) float32 m from where they were seen, none where it is not told."""

    points: Floats
    viewpoints: Floats


def read_cloud(path: Path) -> CloudFile:
    """The finite points of a .pcd, .ply, .npy or .bin file. Raises ValueError where it is damaged or of another kind,
    FileNotFoundError where there is none."""
    readers = {".pcd": _read_pcd, ".ply": _read_ply, ".npy": _read_npy, ".bin": _read_bin}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} is no {', '.join(readers)} file")
    try:
        points, viewpoints = readers[path.suffix.lower()](path)
    except (KeyError, IndexError, UnicodeDecodeError, StopIteration, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a cloud of points: {error or type(error).__name__}") from error
    finite = np.isfinite(points).all(axis=1)
    return CloudFile(np.asarray(points[finite], np.float32), np.asarray(viewpoints, np.float32))


def write_ply(path: Path, points: Floats, viewpoints: Floats) -> None:
    """Write points (N, 3) and viewpoints (V, 3), binary; a file of that name is replaced only once all is written."""
    elements = (("vertex", points), ("viewpoint", viewpoints))
    header = ["ply", "format binary_little_endian 1.0"]
    for name, rows in elements:
        header += [f"element {name} {len(rows)}", *(f"property float {axis}" for axis in "xyz")]
    body = b"".join(np.ascontiguousarray(rows, "<f4").tobytes() for _, rows in elements)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes("\n".join([*header, "end_header\n"]).encode() + body)
    os.replace(part, path)


def _read_npy(path: Path) -> CloudFile:
    points = np.load(path, allow_pickle=False)
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"it holds an array of shape {points.shape}, not (N, 3)")
    return CloudFile(points[:, :3], np.zeros((0, 3), np.float32))


def _read_bin(path: Path) -> CloudFile:
    return CloudFile(np.frombuffer(path.read_bytes(), "<f4").reshape(-1, 4)[:, :3], np.zeros((0, 3), np.float32))


def _read_pcd(path: Path) -> CloudFile:
    """A point cloud of PCL's format; the viewpoint of its header counts where the file names another than 0 0 0."""
    with path.open("rb") as file:
        header: dict[str, list[str]] = {}
        while "DATA" not in header:
            words = _line(file).split()
            if words and not words[0].startswith("#"):
                header[words[0]] = words[1:]
        count, kind = int(header["POINTS"][0]), header["DATA"][0]
        sizes = zip(header["TYPE"], header["SIZE"], header.get("COUNT", ["1"] * len(header["SIZE"])), strict=True)
        fields = [
            (type_.replace("F", "f").replace("U", "u").replace("I", "i") + size, int(n)) for type_, size, n in sizes
        ]
        if kind == "ascii":
            starts = np.cumsum([0, *(n for _, n in fields)])
            columns = [int(starts[header["FIELDS"].index(axis)]) for axis in "xyz"]
            points = np.loadtxt(file, usecols=columns, max_rows=count, ndmin=2).reshape(-1, 3)
        elif kind == "binary":
            names = zip(header["FIELDS"], fields, strict=True)
            record = np.dtype([(f"{name}{k}", f"<{t}", (n,)) for k, (name, (t, n)) in enumerate(names)])
            keys = [f"{axis}{header['FIELDS'].index(axis)}" for axis in "xyz"]
            rows = _rows(file, record, count)
            points = np.hstack([rows[key] for key in keys])
        else:
            raise ValueError(f"its data are '{kind}'; write it again with pcl_convert_pcd_ascii_binary IN OUT 1")
    viewpoint = np.array(header.get("VIEWPOINT", ["0"])[:3], np.float32)
    return CloudFile(points.astype(np.float32), viewpoint[None] if viewpoint.any() else np.zeros((0, 3), np.float32))


def _read_ply(path: Path) -> CloudFile:
    with path.open("rb") as file:
        if _line(file).strip() != "ply":
            raise ValueError("it does not start with 'ply'")
        format_, elements = _ply_header(file)
        found = {name: _ply_element(file, format_, record, count) for name, count, record in elements}
    return CloudFile(found["vertex"], found.get("viewpoint", np.zeros((0, 3), np.float32)))


def _ply_header(file: BinaryIO) -> tuple[str, list[tuple[str, int, list[tuple[str, str]]]]]:
    """The format, and of each element its name, count and properties."""
    format_ = ""
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for words in _words(file):
        if words[0] == "format":
            format_ = words[1]
        elif words[0] == "element":
            elements.append((words[1], int(words[2]), []))
        elif words[0] == "property" and words[1] != "list":
            elements[-1][2].append((words[2], PLY_TYPES[words[1]]))
    # What comes after the points, such as faces, is left unread.
    known = [name for name, _, _ in elements].index("vertex") + 1
    if [name for name, _, _ in elements[known : known + 1]] == ["viewpoint"]:
        known += 1
    return format_, elements[:known]


def _ply_element(file: BinaryIO, format_: str, properties: list[tuple[str, str]], count: int) -> Floats:
    """x y z (count, 3) of an element."""
    names = [name for name, _ in properties]
    if format_ == "ascii":
        columns = [names.index(axis) for axis in "xyz"]
        lines = [_line(file).split() for _ in range(count)]
        return np.array([[line[column] for column in columns] for line in lines], np.float32).reshape(-1, 3)
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}[format_]
    rows = _rows(file, np.dtype([(name, order + kind) for name, kind in properties]), count)
    return np.stack([rows[axis].astype(np.float32) for axis in "xyz"], axis=1)


def _rows(file: BinaryIO, record: np.dtype[np.void], count: int) -> npt.NDArray[np.void]:
    data = file.read(count * record.itemsize)
    if len(data) < count * record.itemsize:
        raise ValueError(f"{count} points of {record.itemsize} bytes are announced, {len(data)} bytes are there")
    return np.frombuffer(data, record)


def _words(file: BinaryIO) -> Iterator[list[str]]:
    """Words of the lines of a header, up to its end."""
    while (words := _line(file).split()) != ["end_header"]:
        if words:
            yield words


def _line(file: BinaryIO) -> str:
    line = file.readline()
    if not line:
        raise ValueError("it ends before its data")
    return line.decode("ascii")
