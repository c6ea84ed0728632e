# SPDX-License-Identifier: Apache-2.0
"""Reads a sequence in the layout of 7-Scenes (Shotton et al., "Scene Coordinate Regression Forests", CVPR 2013).

FOLDER/frame-NNNNNN.{color.jpg or color.png, depth.png (uint16 mm), pose.txt (depth camera -> world)}

The Kinect has two cameras. The poses are the depth camera's (KinectFusion tracked it), and colour is not registered to
depth: the two differ in focal length and stand a few centimetres apart. `frame` gives all in the colour camera,
`depth_frame` all in the depth camera; nothing mixes the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame, project, unproject

DEPTH_MATRIX = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
COLOR_MATRIX = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
# The colour camera stands to the right of the depth camera, so points move to the left. Nominally by 2.6 cm; with the
# focal lengths above, colour edges against depth edges and the agreement of colour between views both ask for these.
DEPTH_TO_COLOR = se3.make(np.eye(3), [-0.022, -0.004, 0])
NO_DEPTH = 65535


class SevenScenes:
    """One sequence: `len`, iteration over the frames whose colour, depth and pose are all there, in order."""

    def __init__(self, folder: Path | str) -> None:
        """Raises FileNotFoundError where the folder holds no whole frame."""
        self._folder = Path(folder)
        poses = sorted(self._folder.glob("frame-*.pose.txt"))
        self.numbers = [number for number in (int(path.name[6:12]) for path in poses) if self._is_whole(number)]
        if not self.numbers:
            raise FileNotFoundError(f"{folder} holds no frame-NNNNNN.color.jpg with .depth.png and .pose.txt")

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[RgbdFrame]:
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int, registered: bool = True) -> RgbdFrame:
        """The index-th given frame as the colour camera saw it: its matrix, its pose, depth registered to it.

        Without `registered` the depth is None, which spares the work where only the image and its pose are wanted.
        """
        depth = register_depth(self._depth(index), DEPTH_MATRIX, COLOR_MATRIX, DEPTH_TO_COLOR) if registered else None
        pose = self._depth_pose(index) @ se3.inverse(DEPTH_TO_COLOR)
        return RgbdFrame(self._color(index), depth, COLOR_MATRIX, pose)

    def depth_frame(self, index: int) -> RgbdFrame:
        """The index-th given frame as the depth camera saw it, with colour registered to it: black without depth."""
        depth = self._depth(index)
        pixels = project(se3.apply(DEPTH_TO_COLOR, unproject(depth, DEPTH_MATRIX)), COLOR_MATRIX)
        x, y = np.moveaxis(np.where(depth[..., None] > 0, pixels, -1), -1, 0).astype(np.float32)
        rgb = cv2.remap(self._color(index), x, y, cv2.INTER_LINEAR).astype(np.uint8)
        return RgbdFrame(rgb, depth, DEPTH_MATRIX, self._depth_pose(index))

    def _is_whole(self, number: int) -> bool:
        return self._color_path(number).exists() and self._path(number, "depth.png").exists()

    def _path(self, number: int, ending: str) -> Path:
        return self._folder / f"frame-{number:06d}.{ending}"

    def _color_path(self, number: int) -> Path:
        path = self._path(number, "color.jpg")
        return path if path.exists() else self._path(number, "color.png")

    def _color(self, index: int) -> NDArray[np.uint8]:
        return read_rgb(self._color_path(self.numbers[index]))

    def _depth(self, index: int) -> Floats:
        return read_depth(self._path(self.numbers[index], "depth.png"))

    def _depth_pose(self, index: int) -> Matrix:
        """The file's rotation is not orthonormal (it is off by up to a degree), so the nearest one is taken."""
        pose = np.loadtxt(self._path(self.numbers[index], "pose.txt"))
        return se3.make(se3.nearest_rotation(pose[:3, :3]), pose[:3, 3])


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Image (H, W, 3) uint8 RGB. Raises ValueError where the file is no image."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is missing or is no image that OpenCV reads")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_depth(path: Path) -> Floats:
    """Depth (H, W) float32 in metres of a uint16 image in millimetres, 0 where there is none (0 or 65535 in the file).

    Raises ValueError where the file is no such image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise ValueError(f"{path} is missing or is no image of one channel of 16 bits")
    depth: Floats = np.where(image == NO_DEPTH, 0, image).astype(np.float32) / np.float32(1000)
    return depth


def register_depth(depth: Floats, matrix: Matrix, new_matrix: Matrix, transform: Matrix) -> Floats:
    """Depth (H, W) as another camera of the same image size would see it: each pixel moves to its nearest one there.

    `transform` (4, 4) takes points of the first camera to the second; the nearest surface wins where two meet.
    There are no holes as long as the second camera is the coarser one.
    """
    points = se3.apply(transform, unproject(depth, matrix)[depth > 0])
    x, y = np.rint(project(points, new_matrix)).astype(np.int64).T
    height, width = depth.shape
    seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    nearest = np.full(depth.shape, np.inf, np.float32)
    np.minimum.at(nearest, (y[seen], x[seen]), points[seen, 2])
    return np.where(np.isinf(nearest), 0, nearest).astype(np.float32)
