# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image <-> numpy: colour of every common encoding as RGB, depth in metres.

The functions only read fields, so messages of rclpy and of the bag library both serve.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from perception_models.geometry.cameras import Floats
from perception_nodes.errors import InvalidMessage

Rgb = NDArray[np.uint8]


class Layout(NamedTuple):
    """How an encoding stores a pixel, and OpenCV's conversion to RGB, None where it is RGB."""

    dtype: str
    channels: int
    conversion: int | None = None


COLORS = {
    "rgb8": Layout("u1", 3),
    "bgr8": Layout("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": Layout("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": Layout("u1", 4, cv2.COLOR_BGRA2RGB),
    "mono8": Layout("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC1": Layout("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC3": Layout("u1", 3, cv2.COLOR_BGR2RGB),  # as cv_bridge takes it
    "mono16": Layout("u2", 1, cv2.COLOR_GRAY2RGB),
    "rgb16": Layout("u2", 3),
    "bgr16": Layout("u2", 3, cv2.COLOR_BGR2RGB),
    "bayer_rggb8": Layout("u1", 1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": Layout("u1", 1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": Layout("u1", 1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": Layout("u1", 1, cv2.COLOR_BayerGRBG2RGB),
    "yuv422": Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Layout("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": Layout("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
}
DEPTHS = {"16UC1": Layout("u2", 1), "mono16": Layout("u2", 1), "32FC1": Layout("f4", 1)}
LABELS = {"32SC1": Layout("i4", 1)}
ENCODINGS = {"|u1": {2: "mono8", 3: "rgb8"}, "<u2": {2: "16UC1"}, "<i4": {2: "32SC1"}, "<f4": {2: "32FC1"}}


def decode_image(message: Any) -> Rgb:
    """Image (H, W, 3) uint8 RGB, writable. Row padding and big-endian data are read as they are; of 16 bits, the high
    eight are kept.

    Raises InvalidMessage where the encoding is none of COLORS, or the sizes contradict each other.
    """
    layout = _layout(message, COLORS, "a colour image")
    if layout.channels == 2 and message.width % 2:
        raise InvalidMessage(f"encoding {message.encoding} stores pairs of pixels, but the width is {message.width}")
    pixels = _pixels(message, layout)
    if layout.dtype == "u2":
        pixels = (pixels >> 8).astype(np.uint8)
    pixels = np.ascontiguousarray(pixels)
    return pixels.copy() if layout.conversion is None else cv2.cvtColor(pixels, layout.conversion).astype(np.uint8)


def decode_depth(message: Any) -> Floats:
    """Depth (H, W) float32 in metres along the optical axis, 0 where there is none (REP-118: 16UC1 mm, 32FC1 m).

    Raises InvalidMessage where the encoding is no depth, or the sizes contradict each other.
    """
    pixels = _pixels(message, _layout(message, DEPTHS, "a depth image"))[..., 0]
    metres = pixels.astype(np.float32)
    if pixels.dtype.kind == "u":
        return metres / np.float32(1000)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def decode_labels(message: Any) -> NDArray[np.int32]:
    """Labels (H, W) int32 of an image in 32SC1. Raises InvalidMessage as `decode_depth`."""
    return _pixels(message, _layout(message, LABELS, "a label image"))[..., 0].astype(np.int32)


def encode_image(pixels: NDArray[Any], header: Header) -> Image:
    """Message of colour (H, W, 3) uint8 RGB, grey (H, W) uint8, depth (H, W) uint16 mm or float32 m, or labels (H, W)
    int32. Raises ValueError for another kind of array."""
    return Image(header=header, data=array("B", pixels.tobytes()), **image_fields(pixels))


def image_fields(pixels: NDArray[Any]) -> dict[str, Any]:
    """The fields of an Image message other than its header and its data, for an array as `encode_image` takes it."""
    encoding = ENCODINGS.get(pixels.dtype.newbyteorder("<").str, {}).get(pixels.ndim)
    if encoding is None or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"an array of {pixels.dtype} and shape {pixels.shape} is no image that can be sent")
    height, width = pixels.shape[:2]
    step = pixels.nbytes // height if height else 0
    return {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0, "step": step}


def _layout(message: Any, known: dict[str, Layout], what: str) -> Layout:
    if message.encoding not in known:
        raise InvalidMessage(f"encoding '{message.encoding}' is not {what}; publish one of {', '.join(known)}")
    return known[message.encoding]


def _pixels(message: Any, layout: Layout) -> NDArray[Any]:
    """The pixels (H, W, channels) as a view of the message's data, in the message's byte order."""
    dtype = np.dtype(layout.dtype).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step, size = message.height, message.width, message.step, layout.channels * dtype.itemsize
    if height * width == 0:
        raise InvalidMessage(f"the image is empty ({width} x {height} pixels); check the camera")
    if step < width * size:
        raise InvalidMessage(f"step {step} is shorter than a row of {width} {message.encoding} pixels; fix the driver")
    needed = step * (height - 1) + width * size
    if len(message.data) < needed:
        raise InvalidMessage(
            f"the image is truncated: {width} x {height} {message.encoding} pixels need {needed} bytes, "
            f"{len(message.data)} came; check the transport and the driver"
        )
    shape, strides = (height, width, layout.channels), (step, size, dtype.itemsize)
    return np.ndarray(shape, dtype, message.data, strides=strides)
