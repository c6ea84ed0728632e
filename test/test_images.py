# SPDX-License-Identifier: Apache-2.0
"""Image messages: every encoding gives the same picture, depth is metres, and what contradicts itself is refused."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="ROS 2 is not installed")

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from perception_nodes.errors import InvalidMessage
from perception_nodes.images import COLORS, decode_depth, decode_image, encode_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
DEPTH = np.array([[0, 1.5], [65.535, 0.001]], np.float32)


def message(pixels: np.ndarray, encoding: str, padding: int = 0, is_bigendian: bool = False) -> Image:
    """An image message of pixels (H, W, ...), with bytes of padding after each row."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">" if is_bigendian else "<")))
    rows = np.pad(rows.view(np.uint8).reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    data = array("B", rows.tobytes())
    step = rows.shape[1]
    return Image(height=height, width=width, encoding=encoding, is_bigendian=int(is_bigendian), step=step, data=data)


def mosaic(pattern: str, color: tuple[int, int, int], size: int = 8) -> np.ndarray:
    """What a sensor with a Bayer pattern (first row, then second) sees of one colour."""
    tile = np.array([color["rgb".index(letter)] for letter in pattern], np.uint8).reshape(2, 2)
    return np.tile(tile, (size // 2, size // 2))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, RGB[..., 0]])),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., 0]])),
        ("rgb16", RGB.astype(np.uint16) * 257),
        ("bgr16", RGB[..., ::-1].astype(np.uint16) * 257),
    ],
)
def test_every_colour_encoding_gives_the_same_rgb(encoding: str, stored: np.ndarray, padding: int) -> None:
    for is_bigendian in (False, True):
        found = decode_image(message(stored, encoding, padding, is_bigendian))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, RGB)


@pytest.mark.parametrize(("encoding", "dtype", "scale"), [("mono8", "u1", 1), ("8UC1", "u1", 1), ("mono16", "u2", 257)])
def test_grey_images_have_three_equal_channels(encoding: str, dtype: str, scale: int) -> None:
    grey = RGB[..., 0].astype(dtype) * scale
    np.testing.assert_array_equal(decode_image(message(grey, encoding)), np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_mosaic_of_one_colour_gives_that_colour(pattern: str) -> None:
    color = (200, 120, 30)
    found = decode_image(message(mosaic(pattern, color), f"bayer_{pattern}8"))
    np.testing.assert_array_equal(found[2:-2, 2:-2].reshape(-1, 3), np.tile(color, (16, 1)))


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")]
)
def test_pairs_of_yuv_pixels_give_their_colour(encoding: str, order: str) -> None:
    red = {"y": 81, "u": 90, "v": 240}  # ITU-R BT.601, studio range
    pair = np.array([red[letter] for letter in order], np.uint8)
    found = decode_image(message(np.tile(pair, (4, 4)).reshape(4, 8, 2), encoding))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 2


def test_an_image_survives_being_sent() -> None:
    head = Header(frame_id="camera")
    sent = encode_image(RGB, head)
    assert sent.header == head
    np.testing.assert_array_equal(decode_image(sent), RGB)
    found = decode_image(sent)
    found[:] = 0  # a copy: drawing on it must not change the message
    np.testing.assert_array_equal(decode_image(sent), RGB)


def test_depth_in_metres_and_in_millimetres_agree() -> None:
    millimetres = np.rint(DEPTH * 1000).astype(np.uint16)
    for is_bigendian in (False, True):
        np.testing.assert_allclose(decode_depth(message(DEPTH, "32FC1", 3, is_bigendian)), DEPTH)
        np.testing.assert_allclose(decode_depth(message(millimetres, "16UC1", 3, is_bigendian)), DEPTH, atol=1e-6)
    np.testing.assert_array_equal(decode_depth(encode_image(DEPTH, Header())), DEPTH)


def test_depth_that_is_no_distance_is_none() -> None:
    depth = np.array([[np.nan, np.inf, -np.inf], [-1, 0, 2]], np.float32)
    np.testing.assert_array_equal(decode_depth(message(depth, "32FC1")), [[0, 0, 0], [0, 0, 2]])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "nv12"}, "encoding 'nv12' is not a colour image; publish one of rgb8, bgr8"),
        ({"encoding": "32FC1"}, "is not a colour image"),
        ({"encoding": ""}, "encoding '' is not"),
        ({"width": 0}, "the image is empty"),
        ({"height": 0}, "the image is empty"),
        ({"height": 7}, "truncated: 8 x 7 rgb8 pixels need 168 bytes, 144 came"),
        ({"step": 23}, "step 23 is shorter than a row of 8 rgb8 pixels"),
        ({"step": 2**31}, "truncated"),
        ({"encoding": "rgba8"}, "step 24 is shorter"),
        ({"encoding": "yuyv", "width": 7}, "stores pairs of pixels"),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_reason(change: dict[str, object], reason: str) -> None:
    sent = message(RGB, "rgb8")
    for name, value in change.items():
        setattr(sent, name, value)
    with pytest.raises(InvalidMessage, match=reason):
        decode_image(sent)


def test_colour_is_no_depth() -> None:
    with pytest.raises(InvalidMessage, match="encoding 'rgb8' is not a depth image; publish one of 16UC1"):
        decode_depth(message(RGB, "rgb8"))


@pytest.mark.parametrize("pixels", [RGB.astype(float), RGB[..., :2], RGB[0, :, 0]])
def test_an_array_that_is_no_image_is_not_sent(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no image that can be sent"):
        encode_image(pixels, Header())


def test_every_conversion_is_one_that_opencv_has() -> None:
    for encoding, layout in COLORS.items():
        pixels = np.zeros((4, 4, layout.channels), layout.dtype)
        assert decode_image(message(pixels, encoding)).shape == (4, 4, 3), encoding
