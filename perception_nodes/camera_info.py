# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/CameraInfo as a pinhole camera, and what makes its images those of one.

The rectified image keeps the matrix K and the frame of the real camera. R and P, which rotate a stereo pair to a common
plane, are not applied to raw images; P alone counts for images that the driver has rectified already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix
from perception_nodes.errors import InvalidMessage
from perception_nodes.images import Rgb

COEFFICIENTS = {"": (0,), "plumb_bob": (0, 4, 5), "rational_polynomial": (8,), "equidistant": (4,)}


@dataclass(frozen=True, eq=False)
class Camera:
    """Images of width x height pixels whose rectified form has the matrix (3, 3); `maps` (H, W) tell where each
    rectified pixel lies in the raw image, None where that is the same place."""

    width: int
    height: int
    matrix: Matrix
    maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None

    def rectify(self, image: Rgb) -> Rgb:
        """Image (H, W, 3) without distortion; black where the camera did not see. Raises as `check_size`."""
        self.check_size(image)
        return image if self.maps is None else cv2.remap(image, *self.maps, cv2.INTER_LINEAR).astype(np.uint8)

    def rectify_depth(self, depth: Floats) -> Floats:
        """Depth (H, W) without distortion: nearest values, as an average of two surfaces lies on neither."""
        self.check_size(depth)
        return depth if self.maps is None else cv2.remap(depth, *self.maps, cv2.INTER_NEAREST).astype(np.float32)

    def check_size(self, image: NDArray[Any]) -> None:
        """Raises InvalidMessage where an image is not of the size that the camera info tells."""
        height, width = image.shape[:2]
        if (width, height) != (self.width, self.height):
            raise InvalidMessage(
                f"the image is {width} x {height}, its camera info says {self.width} x {self.height}; "
                "publish the camera info of this image"
            )


def decode_camera(message: Any, is_rectified: bool = False) -> Camera:
    """The camera of a CameraInfo, its region of interest and binning taken in; `is_rectified`: images come rectified.

    Repeated messages give the same object, so the maps are computed once.
    Raises InvalidMessage where the camera is not calibrated, or its distortion model is not known.
    """
    region, binning = message.roi, (max(message.binning_x, 1), max(message.binning_y, 1))
    is_cropped = region.width > 0 and region.height > 0
    size = (region.width, region.height) if is_cropped else (message.width, message.height)
    offset = (region.x_offset, region.y_offset) if is_cropped else (0, 0)
    # A full P is (3, 4); its last column only moves the second camera of a stereo pair.
    whole = np.reshape(message.p, (3, 4))[:, :3] if is_rectified else np.reshape(message.k, (3, 3))
    distortion = [] if is_rectified else message.d
    matrix = _in_pixels(whole, offset, binning)
    width, height = size[0] // binning[0], size[1] // binning[1]
    _check(message, matrix, width * height, "P" if is_rectified else "K")
    return _camera(message.distortion_model, width, height, tuple(matrix.ravel()), tuple(map(float, distortion)))


def _in_pixels(matrix: Matrix, offset: Sequence[int], binning: Sequence[int]) -> Matrix:
    """The matrix of the whole sensor in pixels of the image, as ROS's image_geometry does it."""
    found = np.array(matrix, np.float64)
    found[:2, 2] -= offset
    found[:2] /= np.reshape(binning, (2, 1))
    return found


def _check(message: Any, matrix: Matrix, pixels: int, name: str) -> None:
    model, count = message.distortion_model, len(message.d)
    if not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0 or matrix[2].tolist() != [0, 0, 1]:
        raise InvalidMessage(f"the camera info has no valid {name} ({matrix.tolist()}); calibrate the camera")
    if pixels == 0:
        raise InvalidMessage("the camera info has no width or no height; set them in the driver")
    if model not in COEFFICIENTS:
        known = ", ".join(filter(None, COEFFICIENTS))
        raise InvalidMessage(f"distortion model '{model}' is not known; known are {known}")
    if count not in COEFFICIENTS[model] or not np.isfinite(message.d).all():
        expected = " or ".join(map(str, COEFFICIENTS[model]))
        raise InvalidMessage(f"model '{model}' takes {expected} finite coefficients, D is {list(message.d)}")


@lru_cache(maxsize=8)
def _camera(model: str, width: int, height: int, values: tuple[float, ...], distortion: tuple[float, ...]) -> Camera:
    matrix = np.reshape(values, (3, 3))
    # An equidistant lens bends rays even where its coefficients are zero.
    if not any(distortion) and not (distortion and model == "equidistant"):
        return Camera(width, height, matrix, None)
    undistort = cv2.fisheye.initUndistortRectifyMap if model == "equidistant" else cv2.initUndistortRectifyMap
    x, y = undistort(matrix, np.array(distortion), np.eye(3), matrix, (width, height), cv2.CV_32FC1)
    return Camera(width, height, matrix, (x.astype(np.float32), y.astype(np.float32)))
