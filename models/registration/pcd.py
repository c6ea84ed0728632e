# SPDX-License-Identifier: Apache-2.0
"""Reads .pcd, the Point Cloud Library's files of version 0.7: ascii, binary and binary_compressed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from perception_models.registration.cloud_format import NO_VIEWPOINTS, CloudFile, read_bytes, read_line, read_rows
from perception_models.registration.lzf import decompress

KINDS = {"F": "<f", "U": "<u", "I": "<i"}
Header = dict[str, list[str]]


class _Field(NamedTuple):
    """A field of every point: its type, and how many of that it holds."""

    name: str
    type: np.dtype[np.generic]
    length: int


def read_pcd(path: Path) -> CloudFile:
    """The points; the viewpoint counts where the header names another than 0 0 0. Raises ValueError or KeyError."""
    with path.open("rb") as file:
        header = _read_header(file)
        fields, count = _fields(header), int(header["POINTS"][0])
        kind = header["DATA"][0]
        if kind not in READERS:
            raise ValueError(f"its data are '{kind}', not {', '.join(READERS)}")
        points = READERS[kind](file, fields, count).astype(np.float32)
    viewpoint = np.array([header.get("VIEWPOINT", ["0", "0", "0"])[:3]], np.float32)
    return CloudFile(points, viewpoint if viewpoint.any() else NO_VIEWPOINTS)


def _read_header(file: BinaryIO) -> Header:
    header: Header = {}
    while "DATA" not in header:
        words = read_line(file).split()
        if words and not words[0].startswith("#"):
            header[words[0]] = words[1:]
    return header


def _fields(header: Header) -> list[_Field]:
    counts = header.get("COUNT", ["1"] * len(header["FIELDS"]))
    rows = zip(header["FIELDS"], header["TYPE"], header["SIZE"], counts, strict=True)
    return [_Field(name, np.dtype(KINDS[kind] + size), int(count)) for name, kind, size, count in rows]


def _axes(fields: list[_Field]) -> list[int]:
    """Which fields are x, y and z. Names such as `_` may come more than once, so fields go by their place."""
    names = [field.name for field in fields]
    return [names.index(axis) for axis in "xyz"]


def _read_ascii(file: BinaryIO, fields: list[_Field], count: int) -> npt.NDArray[np.floating]:
    starts = np.cumsum([0, *(field.length for field in fields)])
    columns = [int(starts[place]) for place in _axes(fields)]
    points = np.loadtxt(file, usecols=columns, max_rows=count, ndmin=2).reshape(-1, 3)
    if len(points) < count:
        raise ValueError(f"{count} points are announced, {len(points)} are there")
    return points


def _read_binary(file: BinaryIO, fields: list[_Field], count: int) -> npt.NDArray[np.floating]:
    """Point after point."""
    record = np.dtype([(str(place), field.type, (field.length,)) for place, field in enumerate(fields)])
    rows = read_rows(file, record, count)
    return np.hstack([rows[str(place)] for place in _axes(fields)])


def _read_compressed(file: BinaryIO, fields: list[_Field], count: int) -> npt.NDArray[np.floating]:
    """Field after field, each of all points; before that the sizes of the block, compressed and not."""
    compressed, size = struct.unpack("<II", read_bytes(file, 8))
    expected = count * sum(field.length * field.type.itemsize for field in fields)
    if size != expected:
        raise ValueError(f"{count} points take {expected} bytes, its compressed data {size}")
    data = decompress(read_bytes(file, compressed), size)
    starts = np.cumsum([0, *(count * field.length * field.type.itemsize for field in fields)])
    return np.stack(
        [np.frombuffer(data, fields[place].type, count, int(starts[place])) for place in _axes(fields)], axis=1
    )


READERS = {"ascii": _read_ascii, "binary": _read_binary, "binary_compressed": _read_compressed}
