# SPDX-License-Identifier: Apache-2.0
"""Regions, network input and memory of the tracker, against brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.geometry.boxes import points_in_boxes
from perception_models.tracking.motion_model import MotionModel
from perception_models.tracking.preprocess import Channel, View, arrange, prepare, remember
from perception_models.tracking.regions import Columns, half_extent, into_box, moved_box, offset_between
from perception_models.tracking.settings import CONTEXT, TrackingSettings

CAR = np.array([8.0, -3.0, -0.9, 4.2, 1.7, 1.5, 0.7], np.float32)
WALKER = np.array([5.0, 6.0, -0.8, 0.8, 0.6, 1.8, -2.0], np.float32)


@pytest.fixture
def cloud() -> np.ndarray:
    return np.random.default_rng(0).uniform([-5, -15, -2, 0], [25, 15, 1, 1], (20000, 4)).astype(np.float32)


def test_a_crop_holds_the_points_of_the_grown_box(cloud: np.ndarray) -> None:
    half = half_extent(CAR[3:6], 0.8, 0.25)
    grown = np.array([*CAR[:3], *(2 * half), CAR[6]], np.float32)
    expected = cloud[points_in_boxes(cloud, grown[None])[:, 0], :3]
    cropped = Columns.of(cloud).crop(CAR, half)
    assert len(cropped) == len(expected) > 100
    np.testing.assert_allclose(cropped, into_box(expected, CAR), atol=1e-5)


def test_regions_grow_with_the_object_and_with_what_it_may_have_moved() -> None:
    for box in (CAR, WALKER):
        margins = half_extent(box[3:6], 0.8, 0.25)[:2] - box[3:5] / 2
        np.testing.assert_allclose(margins, 0.8 * np.sqrt(box[3] * box[4]), rtol=1e-5)
    wider = half_extent(CAR[3:6], 0.8, 0.25, reach=1.5) - half_extent(CAR[3:6], 0.8, 0.25)
    np.testing.assert_allclose(wider, [1.5, 1.5, 0.3], atol=1e-5)


def test_an_offset_leads_from_one_box_to_the_other() -> None:
    other = np.array([9.0, -2.0, -0.7, 4.2, 1.7, 1.5, -2.9], np.float32)
    offset = offset_between(CAR, other)
    np.testing.assert_allclose(moved_box(CAR, offset), other, atol=1e-5)
    away = other[:2] - CAR[:2]
    along = away @ [np.cos(0.7), np.sin(0.7)]
    assert offset[0] == pytest.approx(along / 4.2, abs=1e-6)


def test_rows_hold_points_of_the_region_first_and_nothing_afterwards() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.uniform(-1, 1, (10, 3)), rng.uniform(-1, 1, (4000, 3))
    rows = arrange(few, 32, rng)
    assert rows[:, Channel.VALID].tolist() == [1.0] * 10 + [0.0] * 22
    assert {tuple(row) for row in rows[:10, :3].tolist()} == {tuple(row) for row in few.astype(np.float32).tolist()}
    inside = (np.abs(rows[:10, :3]) <= 0.5).all(axis=1)
    np.testing.assert_array_equal(rows[:10, Channel.INSIDE], inside)
    share = arrange(many, 256, rng)[:, Channel.INSIDE].mean()
    assert share > 1.3 * (np.abs(many) <= 0.5).all(axis=1).mean()


def test_the_network_sees_the_same_of_a_target_that_stands_elsewhere() -> None:
    settings, seeds = TrackingSettings(), (np.random.default_rng(2), np.random.default_rng(2))
    rng = np.random.default_rng(3)
    parts = [rng.uniform(-3, 3, (count, 3)).astype(np.float32) for count in (400, 200, 100)]
    turned = CAR.copy()
    turned[:2] = -CAR[1], CAR[0]
    turned[6] += np.pi / 2
    one, other = (
        prepare([View(CAR[3:6], *parts, box, np.zeros(4), 0.1, 0.0, True, seed)], settings)
        for box, seed in zip((CAR, turned), seeds, strict=True)
    )
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)
    assert one["current"].shape == (1, 256, 6) and one["context"].shape == (1, CONTEXT)


def test_the_oldest_point_of_a_voxel_is_remembered() -> None:
    settings, rng, size = TrackingSettings(), np.random.default_rng(0), CAR[3:6]
    first = remember(np.zeros((0, 3), np.float32), np.array([[0.01, 0.01, 0.01], [9, 9, 9]]), size, settings, rng)
    np.testing.assert_allclose(first, [[0.01, 0.01, 0.01]], atol=1e-6)
    second = remember(first, np.array([[0.02, 0.02, 0.02], [1.0, 0.2, 0.2]]), size, settings, rng)
    np.testing.assert_allclose(second, [[0.01, 0.01, 0.01], [1.0, 0.2, 0.2]], atol=1e-6)
    crowd = rng.uniform(-0.5, 0.5, (5000, 3)) * size
    assert len(remember(second, crowd, size, settings, rng)) == settings.remembered


def test_a_car_that_drives_is_expected_where_it_drives_and_heads_there_while_the_sensor_moves() -> None:
    speed, ego = np.array([6.0, 6.0, 0.0]), se3.from_yaw_pitch_roll(0.02, 0, 0, [0.5, 0, 0])
    world, place = np.eye(4), np.array([10.0, 5.0, -0.9])
    wrong_yaw = np.pi / 4 + 0.4
    model = MotionModel(np.array([*place, 4.2, 1.7, 1.5, wrong_yaw]))
    for _ in range(40):
        world, place = world @ ego, place + 0.1 * speed
        model.predict(0.1, ego)
        local = se3.apply(se3.inverse(world), place)
        yaw = float(model.box[6])  # what is measured says nothing of the heading
        model.correct(np.array([*local, 4.2, 1.7, 1.5, yaw]), np.array([0.05, 0.05, 0.05, 0.05]))
        model.head_along()
    turned = 40 * 0.02
    assert abs(model.box[6] - (np.pi / 4 - turned)) < 0.1
    world, place = world @ ego, place + 0.1 * speed
    model.predict(0.1, ego)
    np.testing.assert_allclose(model.box[:3], se3.apply(se3.inverse(world), place), atol=0.1)


def test_what_is_seen_to_stand_stops_and_what_is_not_seen_for_long_is_expected_to_stand() -> None:
    models = [MotionModel(np.array([10.0, 5.0, -0.9, 4.2, 1.7, 1.5, 0.0])) for _ in range(2)]
    for model in models:
        model.predict(0.1, None)
        model.correct(np.array([10.5, 5.0, -0.9, 4.2, 1.7, 1.5, 0.0]), np.full(4, 0.05))
        assert model.velocity[0] > 3
    for _ in range(5):
        models[0].stand()
    assert abs(models[0].velocity[0]) < 0.5
    for _ in range(25):
        models[1].predict(0.1, None)
    assert models[1].velocity[0] == 0.0 and models[1].uncertainty > 1.0
