# SPDX-License-Identifier: Apache-2.0
"""How alike images are, what is usual, and where frames lie, against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from reconstruction_support import CAMERA, frame, walk

from perception_models.geometry import se3
from perception_models.reconstruction.health import Usual, likeness, sketch
from perception_models.reconstruction.online_settings import OnlineSettings
from perception_models.reconstruction.placement import Placement
from perception_models.reconstruction.scale import ScaleFilter, depth_ratio

SETTINGS = OnlineSettings()


def textured(seed: int) -> np.ndarray:
    """An image twice as large as the network's, rough at all scales."""
    rng = np.random.default_rng(seed)
    image = np.zeros((320, 448))
    for cell in (64, 32, 16, 8):
        image += np.kron(rng.normal(0, 20, (320 // cell, 448 // cell)), np.ones((cell, cell)))
    return np.clip(128 + image, 0, 255).astype(np.uint8)[..., None].repeat(3, -1)


def test_a_shifted_and_brighter_image_is_alike_and_another_is_not() -> None:
    image = textured(0)
    here = sketch(image[40:200, 60:284])
    moved = sketch(np.clip(image[52:212, 88:312] * 0.7 + 60, 0, 255).astype(np.uint8))
    others = [likeness(here, sketch(textured(seed)[40:200, 60:284])) for seed in range(1, 9)]

    assert likeness(here, here) == pytest.approx(1, abs=1e-4)
    assert likeness(here, moved) > 0.8 > SETTINGS.likeness > max(others)
    assert likeness(here, moved) == pytest.approx(likeness(moved, here))


def test_a_blank_image_is_like_nothing_and_no_nan_comes_of_it() -> None:
    blank = sketch(np.full((160, 224, 3), 90, np.uint8))
    assert -1 <= likeness(blank, sketch(textured(0)[:160, :224])) < SETTINGS.likeness


def test_neighbours_on_a_walk_are_alike_and_other_places_are_not() -> None:
    here, there = ([sketch(frame(pose, place).rgb) for pose in walk(6)] for place in (0, 7))
    alike = min(likeness(a, b) for a, b in zip(here, here[1:], strict=False))
    assert alike > 0.75 > max(likeness(a, b) for a in here for b in there)


def test_what_is_usual_is_a_mean_at_first_then_follows_slowly() -> None:
    usual = Usual(OnlineSettings(known_after=3, inertia=0.9))
    for value in (1.0, 2.0):
        usual.add(value)
    assert usual.value is None and not usual.undercut(-5, 0.5)
    usual.add(3.0)
    assert usual.value == pytest.approx(2.0)
    assert usual.undercut(0.9, 0.5) and not usual.undercut(1.1, 0.5)
    for _ in range(100):
        usual.add(10.0)
    assert usual.value == pytest.approx(10, rel=1e-3)


def test_a_placement_and_its_inverse_and_points_agree() -> None:
    place = Placement(se3.from_yaw_pitch_roll(1, 0.3, -0.5, [1, 2, 3]), 2.5)
    pose = se3.from_yaw_pitch_roll(-0.4, 0.1, 0.2, [0.5, -1, 2])
    np.testing.assert_allclose(place.local(place.camera(pose)), pose, atol=1e-12)
    np.testing.assert_allclose(place.camera(pose)[:3, 3], place.apply(pose[:3, 3]), atol=1e-12)


def test_another_scale_leaves_the_camera_where_it_is() -> None:
    place = Placement(se3.from_yaw_pitch_roll(1, 0.3, -0.5, [1, 2, 3]), 2.5)
    pose = se3.from_yaw_pitch_roll(-0.4, 0.1, 0.2, [0.5, -1, 2])
    other = place.rescaled(0.8, pose)
    np.testing.assert_allclose(other.camera(pose), place.camera(pose), atol=1e-12)
    ahead = pose @ np.array([0, 0, 2.0, 1])
    far = np.linalg.norm(other.apply(ahead[:3]) - other.camera(pose)[:3, 3])
    assert far == pytest.approx(1.6)


def test_the_scale_is_a_median_and_then_follows_in_small_steps() -> None:
    rng = np.random.default_rng(0)
    found = rng.uniform(1, 3, (CAMERA.height, CAMERA.width)).astype(np.float32)
    measured = np.where(rng.random(found.shape) < 0.3, 9 * found, 2 * found) * (rng.random(found.shape) < 0.5)
    mask = np.ones(found.shape, bool)
    assert depth_ratio(found, measured, mask)[0] == pytest.approx(2)
    assert np.isnan(depth_ratio(found, 0 * measured, mask)[0])

    scale = ScaleFilter(SETTINGS)
    assert scale.depth(found, measured, mask) == pytest.approx(2)
    assert scale.depth(found, measured, mask) == pytest.approx(2 ** (1 - SETTINGS.scale_inertia))
    few = np.zeros(found.shape, bool)
    few[0, : SETTINGS.scale_pixels // 2] = True
    assert scale.depth(found, measured, few) == 1.0
    scale.begin(1)
    assert scale.depth(found, measured, mask) == pytest.approx(2)


def test_a_camera_that_hardly_moves_tells_no_scale() -> None:
    scale = ScaleFilter(OnlineSettings(scale_step=0.5))
    poses = [se3.make(np.eye(3), [0.1 * k, 0, 0]) for k in range(10)]
    told = [scale.motion(se3.make(np.eye(3), [0.05 * k, 0, 0]), pose) for k, pose in enumerate(poses)]
    assert [k for k, factor in enumerate(told) if factor != 1] == [5] and told[5] == pytest.approx(2)
