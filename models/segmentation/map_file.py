# SPDX-License-Identifier: Apache-2.0
"""Labelled clouds as .ply files: x y z in metres, red green blue, and the instance as `label`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats

LAYOUT = np.dtype(
    [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")] + [("label", "<i4")]
)
NAMES = {"<f4": "float", "|u1": "uchar", "<i4": "int"}


def write_labelled_ply(path: Path, points: Floats, colors: NDArray[np.uint8], labels: NDArray[np.integer]) -> None:
    """Write points (N, 3) with colours (N, 3) and labels (N,), binary; a file of that name is replaced only once all
    is written. Raises OSError where it cannot be written."""
    rows = np.zeros(len(points), LAYOUT)
    for column, name in enumerate("xyz"):
        rows[name] = points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = colors[:, column]
    rows["label"] = labels
    properties = [f"property {NAMES[LAYOUT[name].str]} {name}" for name in LAYOUT.names or ()]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header\n"]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes("\n".join(header).encode() + rows.tobytes())
    os.replace(part, path)
