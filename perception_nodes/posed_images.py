# SPDX-License-Identifier: Apache-2.0
"""Folders of images of a place, with poses and depth where they are known.

Two layouts are read: that of 7-Scenes (see seven_scenes), and
FOLDER/images/*.{png,jpg}, K.txt (3 x 3), and where they are known
      /poses.txt (16 numbers a line, camera -> world), /depth/NAME.png (uint16 mm, registered to the image)
A line of poses.txt belongs to the same line of all_image_filenames.txt, or else to the images in order of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix, RgbdFrame
from perception_nodes.seven_scenes import SevenScenes, read_depth, read_rgb

SUFFIXES = (".png", ".jpg", ".jpeg")


class Frames(Protocol):
    """Views of a place that can be counted and gone through again."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __iter__(self) -> Iterator[RgbdFrame]:
        """One after the other."""
        ...


def open_images(folder: Path) -> Frames:
    """The images of a folder in either layout. Raises FileNotFoundError or ValueError, saying what is amiss."""
    if (folder / "images").is_dir():
        return PosedImages(folder)
    if any(folder.glob("frame-*.pose.txt")):
        return SevenScenes(folder)
    raise FileNotFoundError(f"{folder} has neither images/ with K.txt nor frame-NNNNNN.color.jpg with .pose.txt")


class PosedImages:
    """The images of a folder in order of their names; frames without a known pose or depth have None there."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where there is no image or no K.txt, ValueError where the poses do not fit."""
        self._folder = folder
        self._paths = sorted(path for path in (folder / "images").iterdir() if path.suffix.lower() in SUFFIXES)
        if not self._paths:
            raise FileNotFoundError(f"{folder}/images has no {', '.join(SUFFIXES)}")
        self._matrix = np.loadtxt(folder / "K.txt").reshape(3, 3)
        self._poses = _read_poses(folder, [path.name for path in self._paths])

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[RgbdFrame]:
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int) -> RgbdFrame:
        """The index-th image with what is known of it. Raises ValueError where a file is damaged."""
        path = self._paths[index]
        depth = self._folder / "depth" / f"{path.stem}.png"
        metres = read_depth(depth) if depth.exists() else None
        return RgbdFrame(read_rgb(path), metres, self._matrix, self._poses.get(path.name))


def _read_poses(folder: Path, present: list[str]) -> dict[str, Matrix]:
    """Poses by the name of the image, their rotations made orthonormal; empty where there is no poses.txt."""
    if not (folder / "poses.txt").exists():
        return {}
    listing = folder / "all_image_filenames.txt"
    names = listing.read_text().split() if listing.exists() else present
    rows = np.loadtxt(folder / "poses.txt", ndmin=2)
    if rows.shape != (len(names), 16):
        raise ValueError(f"{folder}/poses.txt is {rows.shape}; expected 16 numbers for each of {len(names)} images")
    poses = rows.reshape(-1, 4, 4)
    return {name: se3.make(se3.nearest_rotation(p[:3, :3]), p[:3, 3]) for name, p in zip(names, poses, strict=True)}
