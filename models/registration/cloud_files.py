# SPDX-License-Identifier: Apache-2.0
"""Clouds of points from files: .pcd, .ply, .npy, and .bin (KITTI's: x y z reflectance)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perception_models.registration.cloud_format import CloudFile
from perception_models.registration.pcd import read_pcd
from perception_models.registration.ply import read_ply


def read_cloud(path: Path) -> CloudFile:
    """The finite points of a file. Raises ValueError where it is damaged or of another kind, FileNotFoundError where
    there is none."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"{path} is no {', '.join(READERS)} file")
    try:
        points, viewpoints = READERS[suffix](path)
    except (KeyError, IndexError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a cloud of points: {error or type(error).__name__}") from error
    finite = np.isfinite(points).all(axis=1)
    return CloudFile(np.asarray(points[finite], np.float32), np.asarray(viewpoints, np.float32))


def _read_npy(path: Path) -> CloudFile:
    points = np.load(path, allow_pickle=False)
    if points.ndim != 2 or points.shape[1] < 3:
        raise ValueError(f"it holds an array of shape {points.shape}, not (N, 3)")
    return CloudFile(points[:, :3])


def _read_bin(path: Path) -> CloudFile:
    return CloudFile(np.frombuffer(path.read_bytes(), "<f4").reshape(-1, 4)[:, :3])


READERS = {".pcd": read_pcd, ".ply": read_ply, ".npy": _read_npy, ".bin": _read_bin}
