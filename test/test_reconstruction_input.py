# SPDX-License-Identifier: Apache-2.0
"""Images brought to the canonical camera, against what that camera would have seen."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.geometry.cameras import rays
from perception_models.reconstruction.focal import estimate_camera
from perception_models.reconstruction.input import GREY, CanonicalCamera, prepare

CAMERA = CanonicalCamera(224, 160, 190.0)


def painted(matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """A smooth image whose colours follow from the directions of the pixels alone."""
    x, y = np.moveaxis(rays(matrix, width, height)[..., :2].astype(np.float64), -1, 0)
    return np.clip(128 + 90 * np.stack([np.sin(5 * x + 2 * y), np.cos(4 * y), np.sin(6 * (x - y))], -1), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((640, 480), [[525.0, 0, 320], [0, 525, 240], [0, 0, 1]]),  # covers the input
        ((540, 360), [[495.6, 0, 269.5], [0, 495.5, 169.2], [0, 0, 1]]),  # leaves a border
        ((320, 240), [[150.0, 0, 140], [0, 170, 130], [0, 0, 1]]),  # enlarged, pixels that are no squares
        ((1280, 720), [[700.0, 0, 400], [0, 700, 500], [0, 0, 1]]),  # looks past the centre
    ],
)
def test_the_input_is_what_a_camera_of_the_canonical_focal_length_sees(size, matrix) -> None:
    matrix = np.array(matrix, np.float64)
    given = prepare(painted(matrix, *size), matrix, CAMERA)

    expected = painted(given.camera_matrix, CAMERA.width, CAMERA.height).astype(np.float64)
    inner = given.mask.copy()
    inner[:, 1:] &= given.mask[:, :-1]
    inner[:, :-1] &= given.mask[:, 1:]
    assert np.abs(given.rgb - expected)[inner].max() < 5
    np.testing.assert_allclose(given.camera_matrix[[0, 1], [0, 1]], 190, rtol=3e-3)
    np.testing.assert_allclose(given.camera_matrix[:2, 2], CAMERA.matrix[:2, 2], atol=0.51)
    assert (given.rgb[~given.mask] == GREY).all() and given.mask.mean() > 0.5


def test_depth_goes_where_its_pixels_go() -> None:
    matrix = np.array([[495.6, 0, 269.5], [0, 495.5, 169.2], [0, 0, 1]])
    depth = (2 + rays(matrix, 540, 360)[..., 0] + 3 * rays(matrix, 540, 360)[..., 1]).astype(np.float32)
    holes = depth.copy()
    holes[100:200, 100:200], holes[200:250, 100:200] = np.nan, 0
    given = prepare(painted(matrix, 540, 360), matrix, CAMERA)

    placed = given.layout.depth(holes)

    there = rays(given.camera_matrix, 224, 160)
    known = placed > 0
    assert 0.6 < known.mean() < given.mask.mean() and not (known & ~given.mask).any()
    np.testing.assert_allclose(placed[known], (2 + there[..., 0] + 3 * there[..., 1])[known], atol=0.02)


def test_an_image_that_is_canonical_already_is_not_touched() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (160, 224, 3)).astype(np.uint8)
    given = prepare(rgb, CAMERA.matrix, CAMERA)

    np.testing.assert_array_equal(given.rgb, rgb)
    np.testing.assert_allclose(given.camera_matrix, CAMERA.matrix)
    assert given.mask.all()
    assert given.tensor.shape == (1, 3, 160, 224) and given.tensor.dtype == np.float32
    np.testing.assert_allclose(given.tensor[0, :, 5, 7], rgb[5, 7] / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("size", [(640, 480), (640, 300), (100, 300)])
def test_without_a_matrix_the_width_is_covered(size) -> None:
    given = prepare(np.full((size[1], size[0], 3), 77, np.uint8), None, CAMERA)

    assert given.camera_matrix is None
    rows = np.flatnonzero(given.mask.any(axis=1))
    assert given.mask[rows].all() and (given.rgb[given.mask] == 77).all()
    assert len(rows) == min(round(size[1] * 224 / size[0]), 160)


def test_a_network_that_takes_any_camera_gets_the_whole_width_and_the_matrix_to_it() -> None:
    matrix = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
    given = prepare(painted(matrix, 640, 480), matrix, CanonicalCamera(512, 384, 0.0))

    assert given.mask.all()
    assert np.abs(given.rgb - painted(given.camera_matrix, 512, 384).astype(float)).max() < 5


@pytest.mark.parametrize(
    "matrix",
    [
        [[525.0, 0, 9000], [0, 525, 240], [0, 0, 1]],
        [[20.0, 0, 320], [0, 20, 240], [0, 0, 1]],
        [[90000.0, 0, 320], [0, 90000, 240], [0, 0, 1]],
        [[-525.0, 0, 320], [0, 525, 240], [0, 0, 1]],
    ],
)
def test_a_matrix_that_cannot_be_of_the_image_is_refused(matrix) -> None:
    with pytest.raises(ValueError, match="camera matrix|principal point"):
        prepare(np.zeros((480, 640, 3), np.uint8), np.array(matrix), CAMERA)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), None])
def test_anything_but_an_rgb_image_is_refused(image) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        prepare(image, None, CAMERA)


@pytest.mark.parametrize("focal", [95.0, 190.0, 400.0])
def test_the_focal_length_is_found_among_wrong_points_as_a_search_finds_it(focal: float) -> None:
    rng = np.random.default_rng(3)
    matrix = CanonicalCamera(112, 80, focal).matrix
    points = rays(matrix, 112, 80) * rng.uniform(1, 4, (80, 112, 1)).astype(np.float32)
    wrong = rng.random((80, 112)) < 0.3
    points[wrong, :2] *= 1.7
    confidence = rng.uniform(1, 3, (80, 112)).astype(np.float32)
    mask = rng.random((80, 112)) < 0.8

    found = estimate_camera(points, confidence, mask)[0, 0]

    places = np.stack(np.meshgrid(np.arange(112) - 55.5, np.arange(80) - 39.5), -1)
    slopes = points[..., :2] / points[..., 2:]
    tried = np.linspace(0.4 * focal, 1.6 * focal, 1201)
    costs = [(confidence * np.linalg.norm(places - f * slopes, axis=-1))[mask].sum() for f in tried]
    assert found == pytest.approx(tried[int(np.argmin(costs))], rel=0.01)
    assert found == pytest.approx(focal, rel=0.01)


def test_points_behind_the_camera_have_no_focal_length() -> None:
    with pytest.raises(ValueError, match="front"):
        estimate_camera(np.full((8, 8, 3), -1, np.float32), np.ones((8, 8), np.float32), np.ones((8, 8), bool))
