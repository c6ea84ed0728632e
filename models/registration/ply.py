# SPDX-License-Identifier: Apache-2.0
"""Reads and writes .ply: ascii and binary.

A file that we write also says from where its points were seen, as an element `viewpoint` that other readers skip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from perception_models.registration.cloud_format import NO_VIEWPOINTS, CloudFile, Floats, read_line, read_rows

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}


class _Element(NamedTuple):
    """A list of `length` things with properties (name, type)."""

    name: str
    length: int
    properties: list[tuple[str, str]]


def read_ply(path: Path) -> CloudFile:
    """The points and viewpoints. Raises ValueError, KeyError or IndexError where the file is none."""
    with path.open("rb") as file:
        if read_line(file).strip() != "ply":
            raise ValueError("it does not start with 'ply'")
        format_, elements = _read_header(file)
        found = {element.name: _read_element(file, format_, element) for element in elements}
    return CloudFile(found["vertex"], found.get("viewpoint", NO_VIEWPOINTS))


def write_ply(path: Path, points: Floats, viewpoints: Floats = NO_VIEWPOINTS) -> None:
    """Write points (N, 3) and viewpoints (V, 3), binary; a file of that name is replaced only once all is written."""
    elements = (("vertex", points), ("viewpoint", viewpoints))
    header = ["ply", "format binary_little_endian 1.0"]
    for name, rows in elements:
        header += [f"element {name} {len(rows)}", *(f"property float {axis}" for axis in "xyz")]
    body = b"".join(np.ascontiguousarray(rows, "<f4").tobytes() for _, rows in elements)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes("\n".join([*header, "end_header\n"]).encode() + body)
    os.replace(part, path)


def _read_header(file: BinaryIO) -> tuple[str, list[_Element]]:
    """The format and the elements, up to the last that counts: what comes after, such as faces, is left unread."""
    format_ = ""
    elements: list[_Element] = []
    for words in _header_lines(file):
        if words[0] == "format":
            format_ = words[1]
        elif words[0] == "element":
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[0] == "property" and words[1] != "list":
            elements[-1].properties.append((words[2], TYPES[words[1]]))
    names = [element.name for element in elements]
    known = names.index("vertex") + 1
    return format_, elements[: known + 1] if names[known : known + 1] == ["viewpoint"] else elements[:known]


def _header_lines(file: BinaryIO) -> Iterator[list[str]]:
    """Words of the lines of a header, up to its end."""
    while (words := read_line(file).split()) != ["end_header"]:
        if words:
            yield words


def _read_element(file: BinaryIO, format_: str, element: _Element) -> Floats:
    """x y z (N, 3) of an element."""
    if format_ == "ascii":
        names = [name for name, _ in element.properties]
        columns = [names.index(axis) for axis in "xyz"]
        lines = [read_line(file).split() for _ in range(element.length)]
        return np.array([[line[column] for column in columns] for line in lines], np.float32).reshape(-1, 3)
    record = np.dtype([(name, ORDERS[format_] + kind) for name, kind in element.properties])
    rows = read_rows(file, record, element.length)
    return np.stack([rows[axis].astype(np.float32) for axis in "xyz"], axis=1)
