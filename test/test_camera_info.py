# SPDX-License-Identifier: Apache-2.0
"""CameraInfo: a rectified image is that of a pinhole camera, as OpenCV's own projections say, for every lens model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="ROS 2 is not installed")

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from perception_nodes.camera_info import decode_camera
from perception_nodes.errors import InvalidMessage

K = np.array([[300.0, 0, 158], [0, 310, 122], [0, 0, 1]])
LENSES = {
    "plumb_bob": [-0.3, 0.12, 0.002, -0.001, 0.01],
    "rational_polynomial": [0.4, -0.2, 0.001, -0.002, 0.05, 0.7, -0.1, 0.02],
    "equidistant": [-0.02, 0.01, -0.004, 0.001],
}
SIZE = (320, 240)


def info(model: str = "plumb_bob", distortion: list[float] | None = None, **changes: object) -> CameraInfo:
    message = CameraInfo(
        width=SIZE[0],
        height=SIZE[1],
        distortion_model=model,
        d=[0.0] * 5 if distortion is None else distortion,
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=np.column_stack([K, [0, 0, 0]]).ravel(),
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def project(points: np.ndarray, model: str, distortion: list[float]) -> np.ndarray:
    """Pixels (N, 2) of points (N, 3) in the raw image, by OpenCV."""
    lens = cv2.fisheye if model == "equidistant" else cv2
    pixels, _ = lens.projectPoints(points[:, None], np.zeros(3), np.zeros(3), K, np.array(distortion))
    return pixels.reshape(-1, 2)


def spot(centre: np.ndarray) -> np.ndarray:
    """An image of one soft spot at a pixel x, y."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    bright = 255 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 3.0**2))
    return np.repeat(bright[..., None], 3, axis=2).round().astype(np.uint8)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image[..., 0].astype(float)
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.mark.parametrize("model", LENSES)
def test_a_spot_lands_where_the_pinhole_camera_sees_it(model: str) -> None:
    camera = decode_camera(info(model, LENSES[model]))
    points = np.array([[0.0, 0, 2], [0.3, 0.2, 1], [-0.35, 0.25, 1], [-0.3, -0.28, 1], [0.4, -0.1, 1]])
    raw = project(points, model, LENSES[model])
    straight = (points / points[:, 2:] @ K.T)[:, :2]
    assert np.abs(raw - straight).max() > 3  # the lens does bend
    for pixel, expected in zip(raw, straight, strict=True):
        np.testing.assert_allclose(centroid(camera.rectify(spot(pixel))), expected, atol=0.3)


@pytest.mark.parametrize("model", LENSES)
def test_rectified_depth_is_the_nearest_raw_value_and_never_a_mixture(model: str) -> None:
    camera = decode_camera(info(model, LENSES[model]))
    x, y = np.meshgrid(np.arange(SIZE[0], dtype=np.float32), np.arange(SIZE[1], dtype=np.float32))
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], axis=-1).astype(float)
    raw = project(rays.reshape(-1, 3), model, LENSES[model]).reshape(*x.shape, 2)
    seen = ((raw > 1) & (raw < np.array(SIZE) - 2)).all(axis=-1)
    for axis, coordinate in enumerate((x, y)):
        found = camera.rectify_depth(coordinate)
        assert np.abs(found[seen] - raw[seen][:, axis]).max() <= 0.51
        assert np.isin(found, coordinate).all()


@pytest.mark.parametrize(
    ("model", "distortion"), [("plumb_bob", [0.0] * 5), ("", []), ("rational_polynomial", [0.0] * 8)]
)
def test_without_distortion_the_image_passes_as_it_is(model: str, distortion: list[float]) -> None:
    camera = decode_camera(info(model, distortion))
    image = spot(np.array([100, 100]))
    assert camera.rectify(image) is image
    np.testing.assert_array_equal(camera.matrix, K)


def test_repeated_messages_share_one_camera() -> None:
    assert decode_camera(info("plumb_bob", LENSES["plumb_bob"])) is decode_camera(
        info("plumb_bob", LENSES["plumb_bob"])
    )


def test_an_image_that_came_rectified_is_measured_with_p() -> None:
    projection = np.array([[280.0, 0, 150, -30], [0, 280, 120, 0], [0, 0, 1, 0]])
    camera = decode_camera(info("plumb_bob", LENSES["plumb_bob"], p=projection.ravel()), is_rectified=True)
    np.testing.assert_array_equal(camera.matrix, projection[:, :3])
    assert camera.maps is None


def test_a_region_and_binning_move_and_shrink_the_matrix() -> None:
    region = RegionOfInterest(x_offset=40, y_offset=20, width=200, height=160)
    camera = decode_camera(info(roi=region, binning_x=2, binning_y=2))
    assert (camera.width, camera.height) == (100, 80)
    np.testing.assert_allclose(camera.matrix, [[150, 0, 59], [0, 155, 51], [0, 0, 1]])


def test_an_image_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(InvalidMessage, match="the image is 10 x 20, its camera info says 320 x 240"):
        decode_camera(info()).rectify(np.zeros((20, 10, 3), np.uint8))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (info(k=np.zeros(9)), "no valid K"),
        (info(k=np.where(np.eye(3).ravel() > 0, np.nan, 0)), "no valid K"),
        (info(width=0), "no width or no height"),
        (info("omnidirectional", [0.1] * 4), "distortion model 'omnidirectional' is not known; known are plumb_bob"),
        (info("plumb_bob", [0.1] * 3), "takes 0 or 4 or 5 finite coefficients"),
        (info("equidistant", [0.1] * 5), "takes 4 finite"),
        (info("plumb_bob", [float("nan")] * 5), "finite coefficients"),
        (info("", [0.1] * 5), "takes 0 finite"),
    ],
)  # fmt: skip
def test_a_camera_that_is_not_calibrated_is_refused(message: CameraInfo, reason: str) -> None:
    with pytest.raises(InvalidMessage, match=reason):
        decode_camera(message)


def test_a_rectified_image_needs_p() -> None:
    with pytest.raises(InvalidMessage, match="no valid P"):
        decode_camera(info(p=np.zeros(12)), is_rectified=True)
