# SPDX-License-Identifier: Apache-2.0
"""Coloured clouds as .ply and .pcd files: x y z in metres, colour, and columns that the caller names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats

Columns = Mapping[str, NDArray[Any]]
PLY_NAMES = {"<f4": "float", "|u1": "uchar", "<i4": "int"}
PCD_KINDS = {"f": "F", "u": "U", "i": "I"}


def write_cloud(path: Path, points: Floats, colors: NDArray[np.uint8], more: Columns | None = None) -> None:
    """Write points (N, 3), colours (N, 3) RGB and more columns (N,), float32, uint8 or int32, in binary; a file of that
    name is replaced only once all is written. Raises ValueError for an ending other than .ply and .pcd, OSError where
    it cannot be written."""
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path} must end in {' or '.join(WRITERS)}")
    places = {name: points[:, column] for column, name in enumerate("xyz")}
    content = WRITERS[path.suffix.lower()](places, colors, dict(more or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def _ply(places: Columns, colors: NDArray[np.uint8], more: Columns) -> bytes:
    named = {name: colors[:, column] for column, name in enumerate(("red", "green", "blue"))}
    rows = _rows({**places, **named, **more})
    properties = [f"property {PLY_NAMES[rows.dtype[name].str]} {name}" for name in rows.dtype.names or ()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header\n"]
    return "\n".join(header).encode() + rows.tobytes()


def _pcd(places: Columns, colors: NDArray[np.uint8], more: Columns) -> bytes:
    """Version 0.7; colour as the Point Cloud Library has it, the three bytes of an unsigned number as `rgb`."""
    red, green, blue = colors.astype(np.uint32).T
    rows = _rows({**places, "rgb": (red << 16 | green << 8 | blue).view(np.float32), **more})
    types = [rows.dtype[name] for name in rows.dtype.names or ()]
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(rows.dtype.names or ())}",
        f"SIZE {' '.join(str(one.itemsize) for one in types)}",
        f"TYPE {' '.join(PCD_KINDS[one.kind] for one in types)}",
        f"COUNT {' '.join('1' for _ in types)}",
        f"WIDTH {len(rows)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(rows)}",
        "DATA binary\n",
    ]
    return "\n".join(header).encode() + rows.tobytes()


WRITERS = {".ply": _ply, ".pcd": _pcd}


def _rows(columns: Columns) -> NDArray[np.void]:
    """One record a point, little-endian."""
    layout = np.dtype([(name, column.dtype.newbyteorder("<")) for name, column in columns.items()])
    rows = np.zeros(len(next(iter(columns.values()))), layout)
    for name, column in columns.items():
        rows[name] = column
    return rows
