# SPDX-License-Identifier: Apache-2.0
"""What the formats of cloud files share."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
NO_VIEWPOINTS = np.zeros((0, 3), np.float32)


class CloudFile(NamedTuple):
    """points (N, 3) float32 m, and viewpoints (V, 3) float32 m from where they were seen, none where it is not told."""

    points: Floats
    viewpoints: Floats = NO_VIEWPOINTS


def read_line(file: BinaryIO) -> str:
    """The next line of a text header. Raises ValueError where there is none."""
    line = file.readline()
    if not line:
        raise ValueError("it ends before its data")
    return line.decode("ascii")


def read_bytes(file: BinaryIO, count: int) -> bytes:
    """So many bytes. Raises ValueError where there are fewer."""
    data = file.read(count)
    if len(data) < count:
        raise ValueError(f"{count} bytes of points are announced, {len(data)} are there")
    return data


def read_rows(file: BinaryIO, record: np.dtype[np.void], count: int) -> npt.NDArray[np.void]:
    """`count` records. Raises ValueError where there are fewer."""
    return np.frombuffer(read_bytes(file, count * record.itemsize), record)
