# SPDX-License-Identifier: Apache-2.0
"""The depth camera errs as it says: noise by depth, a fixed pattern of each unit, holes where it is blind."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from perception_models.simulation.rgbd_camera import KINECT, STEPS, RgbdCamera, depth_noise, sense_depth, unlit
from perception_models.simulation.room_looks import LAYERS
from perception_models.simulation.textures import SIZE, Textures

PERFECT_UNIT = replace(KINECT, distortion=0.0)


def sense(
    depth: float | NDArray[np.float32], camera: RgbdCamera, seed: int, cosine: float = 1.0
) -> NDArray[np.float32]:
    shape = (camera.height, camera.width)
    true = np.broadcast_to(np.float32(depth), shape)
    return sense_depth(
        true, np.full(shape, cosine, np.float32), np.zeros(shape, bool), camera, np.random.default_rng(seed)
    )


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("depth", [0.6, 1.5, 3.0])
def test_noise_of_depth_grows_as_measured_on_a_kinect(depth: float, factor: float) -> None:
    measured = np.stack([sense(depth, PERFECT_UNIT.scaled(factor), seed) for seed in range(8)])
    step = depth**2 / STEPS  # rounding adds its own error
    expected = np.hypot(depth_noise(np.float32(depth)), step / np.sqrt(12))
    error = measured[measured > 0] - depth
    assert error.std() == pytest.approx(expected, rel=0.15)
    assert abs(error.mean()) < 0.15 * expected


def test_depth_comes_in_steps_of_disparity() -> None:
    measured = sense(2.0, KINECT, 0)
    steps = STEPS / measured[measured > 0]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_a_unit_errs_alike_in_all_its_frames_and_unlike_others() -> None:
    errors = [
        np.mean([sense(2.0, replace(KINECT.scaled(0.25), unit=unit), seed) for seed in seeds], axis=0) - 2.0
        for unit, seeds in ((0, range(20)), (0, range(20, 40)), (1, range(40, 60)))
    ]
    assert np.corrcoef(errors[0].ravel(), errors[1].ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(errors[0].ravel(), errors[2].ravel())[0, 1]) < 0.6


def test_nothing_is_measured_out_of_range_at_grazing_angles_or_in_mirrors() -> None:
    near, far = sense(0.3, KINECT, 0), sense(6.0, KINECT, 0)
    grazing = sense(2.0, KINECT, 0, cosine=0.005)
    shape = (KINECT.height, KINECT.width)
    mirror = sense_depth(
        np.full(shape, 3, np.float32),
        np.ones(shape, np.float32),
        np.ones(shape, bool),
        KINECT,
        np.random.default_rng(0),
    )
    assert not near.any() and not far.any()
    assert (grazing > 0).mean() < 0.2 and (mirror > 0).mean() < 0.2
    assert (sense(2.0, KINECT, 0) > 0).mean() > 0.99


def test_the_pattern_leaves_a_shadow_as_wide_as_the_baseline_makes_it() -> None:
    depth = np.full((4, KINECT.width), 3.0, np.float32)
    depth[:, 200:300] = 1.0
    width = 0.075 * KINECT.focal_length * (1 / 1.0 - 1 / 3.0)
    dark = np.flatnonzero(unlit(depth, KINECT)[0])
    assert dark.min() == 300
    assert len(dark) == pytest.approx(width, abs=1.5)


def test_a_camera_without_noise_is_exact() -> None:
    measured = sense(1.2345, replace(KINECT, noise=0.0), 0)
    np.testing.assert_array_equal(measured, np.float32(1.2345))


def test_textures_show_images_where_they_are_and_their_mean_from_afar() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    textures, layer = Textures(0, [image]), np.array([len(LAYERS)])
    rows, columns = np.array([3, 200]), np.array([7, 90])
    uv = ((np.stack([columns, rows], axis=1) + 0.5) / SIZE).astype(np.float32)
    layers = np.repeat(layer, 2)
    near = textures.sample(layers, uv + [[0, 0], [3, -2]], np.full(2, 0.5 / SIZE, np.float32))
    np.testing.assert_allclose(near, image[rows, columns] / 255, atol=1e-3)
    far = textures.sample(layers, uv, np.full(2, 1.0, np.float32))
    np.testing.assert_allclose(far, np.broadcast_to(image.mean(axis=(0, 1)) / 255, (2, 3)), atol=0.06)
