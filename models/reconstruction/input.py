# SPDX-License-Identifier: Apache-2.0
"""An image as the network sees it: as if the canonical camera had taken it.

Depth of a plain image is known up to the focal length alone (Yin et al., "Metric3D", ICCV 2023, section 3.1), so each
image is brought to one focal length, the principal point in the centre; what it does not fill is grey.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix, check_camera
from perception_models.geometry.cameras import camera_matrix as centred_camera
from perception_models.reconstruction.view import Bools, Rgb

GREY = 128
WIDEST, NARROWEST = np.radians(170), np.radians(3)  # angles that a pinhole camera sees


@dataclass(frozen=True)
class CanonicalCamera:
    """What the network takes: width x height pixels, focal length in pixels; 0: any, so images are only resized."""

    width: int
    height: int
    focal: float

    @property
    def matrix(self) -> Matrix:
        """Camera matrix (3, 3); without a focal length that of a view 60 degrees wide."""
        return centred_camera(self.focal or self.width / 2 / np.tan(np.radians(30)), self.width, self.height)


@dataclass(frozen=True)
class Layout:
    """How an image of `size` (width, height) comes into the network's: resized to `resized` (width, height), its first
    pixel put at `corner` (x, y). Whole pixels, so that nothing is blurred twice."""

    camera: CanonicalCamera
    size: tuple[int, int]
    resized: tuple[int, int]
    corner: tuple[int, int]

    @staticmethod
    def of(size: tuple[int, int], camera_matrix: Matrix | None, camera: CanonicalCamera) -> Layout:
        """With the matrix (3, 3) of the image; None: its width is made to fit. Raises ValueError where no pinhole
        camera has that matrix, or the image would show nothing."""
        if camera_matrix is None or not camera.focal:
            return _covering(size, camera)
        _check_view(camera_matrix, size)
        focal, centre = camera_matrix[[0, 1], [0, 1]], camera_matrix[:2, 2]
        resized = np.maximum(np.rint(camera.focal / focal * size), 1)
        place = (centre + 0.5) * resized / size - 0.5  # of the principal point in the resized image
        corner = np.rint(camera.matrix[:2, 2] - place)
        if (corner + resized <= 0).any() or (corner >= (camera.width, camera.height)).any():
            raise ValueError(f"the principal point {centre.tolist()} is far off the image: check the camera info")
        return Layout(camera, size, _pair(resized), _pair(corner))

    def matrix(self, camera_matrix: Matrix) -> Matrix:
        """The matrix (3, 3) of the network's image, of an image with this matrix."""
        moved, scale = camera_matrix.astype(np.float64), np.divide(self.resized, self.size)
        moved[:2] *= scale[:, None]
        moved[:2, 2] += 0.5 * scale - 0.5 + self.corner
        return moved

    def image(self, rgb: Rgb) -> Rgb:
        """The network's image (H, W, 3) uint8 of an image (h, w, 3)."""
        smaller = self.resized[0] < self.size[0]
        resized = cv2.resize(rgb, self.resized, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return np.asarray(self._placed(resized, GREY), np.uint8)

    def depth(self, depth: Floats) -> Floats:
        """Depth (H, W) of the network's image, nearest values of a depth image (h, w); 0 where there is none."""
        known = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
        resized = cv2.resize(known, self.resized, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(self._placed(resized, 0), np.float32)

    def enlarged(self, factor: int) -> Layout:
        """Of a camera that sees the same on `factor` times as many rows and columns."""
        camera = CanonicalCamera(factor * self.camera.width, factor * self.camera.height, factor * self.camera.focal)
        (columns, rows), (x, y) = self.resized, self.corner
        return Layout(camera, self.size, (factor * columns, factor * rows), (factor * x, factor * y))

    @property
    def mask(self) -> Bools:
        """Pixels (H, W) that show the image."""
        return np.asarray(self._placed(np.ones(self.resized[::-1], bool), 0), bool)

    def _placed(self, resized: NDArray[np.generic], border: int) -> NDArray[np.generic]:
        (x, y), (columns, rows) = self.corner, self.resized
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + columns, self.camera.width), min(y + rows, self.camera.height)
        canvas = np.full((self.camera.height, self.camera.width, *resized.shape[2:]), border, resized.dtype)
        canvas[top:bottom, left:right] = resized[top - y : bottom - y, left - x : right - x]
        return canvas


def _covering(size: tuple[int, int], camera: CanonicalCamera) -> Layout:
    """The image's width is the network's; rows are cut off, or grey is added, above and below alike."""
    rows = max(1, round(size[1] * camera.width / size[0]))
    return Layout(camera, size, (camera.width, rows), (0, (camera.height - rows) // 2))


def _pair(values: NDArray[np.floating]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


@dataclass(frozen=True)
class NetworkInput:
    """One image (H, W, 3) uint8 of the network's size, the pixels (H, W) that show it, its camera matrix (3, 3), None
    where it is not known, how it came about, and of which image (h, w, 3)."""

    rgb: Rgb
    mask: Bools
    camera_matrix: Matrix | None
    layout: Layout
    source: Rgb

    def enlarged(self, factor: int) -> Rgb:
        """The image with `factor` times as many rows and columns, finer where the source is; its camera matrix is that
        of `resize_matrix`."""
        return self.layout.enlarged(factor).image(self.source)

    @property
    def tensor(self) -> Floats:
        """(1, 3, H, W) float32, -1 to 1."""
        return np.ascontiguousarray(self.rgb.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - np.float32(1)


def prepare(rgb: Rgb, camera_matrix: Matrix | None, camera: CanonicalCamera) -> NetworkInput:
    """Bring an undistorted image (h, w, 3) uint8 RGB to the canonical camera. Raises ValueError for another shape or
    type, and as `Layout.of`."""
    if not isinstance(rgb, np.ndarray) or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        kind = f"{getattr(rgb, 'shape', type(rgb).__name__)} {getattr(rgb, 'dtype', '')}"
        raise ValueError(f"an image is (H, W, 3) uint8 RGB, got {kind}")
    layout = Layout.of((rgb.shape[1], rgb.shape[0]), camera_matrix, camera)
    matrix = None if camera_matrix is None else layout.matrix(camera_matrix)
    return NetworkInput(layout.image(rgb), layout.mask, matrix, layout, rgb)


def _check_view(camera_matrix: Matrix, size: tuple[int, int]) -> None:
    """Raise ValueError where images of a size (width, height) cannot be of a camera with this matrix."""
    check_camera(camera_matrix)
    angles = 2 * np.arctan(np.divide(size, camera_matrix[[0, 1], [0, 1]]) / 2)
    if angles.max() > WIDEST or angles.min() < NARROWEST:
        seen = ", ".join(f"{angle:.1f}" for angle in np.degrees(angles))
        raise ValueError(f"the camera matrix says that the image is {seen} degrees wide and high: is it of this image?")
