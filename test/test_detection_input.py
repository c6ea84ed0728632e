# SPDX-License-Identifier: Apache-2.0
"""Pillars and network input against loops over points; targets and box codes against their definition."""

from collections import defaultdict

import numpy as np
import pytest

from perception_models.detection.box_coding import cell_centres, decode, encode
from perception_models.detection.preprocess import prepare
from perception_models.detection.settings import DetectionSettings
from perception_models.detection.targets import draw_targets
from perception_models.geometry.pillars import PillarGrid, group_into_pillars, local_ground, occupancy, sample_points

SMALL = DetectionSettings(grid=PillarGrid(extent=12.8), max_pillars=1024, max_tokens=512)


def cloud(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform([-14, -14, -2, 0], [14, 14, 1, 1], (count, 4)).astype(np.float32)
    points[: count // 2, 2] = -1.7
    return points


def by_cell(points: np.ndarray, grid: PillarGrid) -> dict[int, list[np.ndarray]]:
    cells = defaultdict(list)
    for point in points:
        if abs(point[0]) < grid.extent and abs(point[1]) < grid.extent and grid.z_low < point[2] < grid.z_high:
            column, row = (int((point[k] + grid.extent) / grid.cell) for k in (0, 1))
            cells[row * grid.size + column].append(point)
    return cells


def test_pillars_hold_the_points_of_their_cell_sorted_by_height() -> None:
    points = cloud(3000)
    pillars = group_into_pillars(points, SMALL.grid)
    expected = by_cell(points, SMALL.grid)
    assert pillars.cells.tolist() == sorted(expected)
    for cell, start, count in zip(pillars.cells, pillars.starts, pillars.counts, strict=True):
        own = pillars.points[start : start + count]
        assert sorted(map(tuple, own)) == sorted(map(tuple, expected[cell]))
        assert (np.diff(own[:, 2]) > -0.04).all()  # sorted in 256 steps of the grid's height


def test_non_finite_and_far_points_are_left_out() -> None:
    points = cloud(100)
    broken = np.concatenate([points, np.full((5, 4), np.nan, np.float32), np.full((5, 4), np.inf, np.float32)])
    assert len(group_into_pillars(broken, SMALL.grid).points) == len(group_into_pillars(points, SMALL.grid).points)


def test_ghosts_metres_under_the_road_are_left_out_and_slopes_stay() -> None:
    rng = np.random.default_rng(5)
    road = rng.uniform([-12, -12, 0, 0], [12, 12, 0, 1], (20000, 4)).astype(np.float32)
    road[:, 2] = 0.15 * road[:, 0] - 1.5
    car = rng.uniform([2, 2, -0.5, 0], [6, 4, 0.9, 1], (5000, 4)).astype(np.float32)
    ghosts = rng.uniform([2, 2, -4.9, 0], [6, 4, -3.0, 1], (40, 4)).astype(np.float32)
    kept = group_into_pillars(np.concatenate([road, car, ghosts]), SMALL.grid).points
    assert len(kept) == len(road) + len(car)
    assert (kept[:, 2] > 0.15 * kept[:, 0] - 1.6).all()


def test_local_ground_is_the_lowest_point_of_the_neighbourhood() -> None:
    pillars = group_into_pillars(cloud(800), SMALL.grid)
    size = SMALL.grid.size
    row, column = pillars.cells // size, pillars.cells % size
    near = (np.abs(row[:, None] - row) <= 2) & (np.abs(column[:, None] - column) <= 2)
    expected = np.where(near, pillars.lowest, np.inf).min(axis=1)
    assert np.array_equal(local_ground(pillars, SMALL.grid, 5), expected.astype(np.float32))


def test_sampled_points_are_spread_over_the_heights_and_never_repeated() -> None:
    points = np.zeros((50, 4), np.float32)
    points[:, 2] = np.linspace(-2, 0, 50)
    sampled, mask = sample_points(group_into_pillars(points, SMALL.grid), np.array([0]), 10)
    assert mask.all() and len(np.unique(sampled[0, :, 2])) == 10
    assert sampled[0, -1, 2] > -0.25


def test_occupancy_marks_the_sub_cell_and_slice_of_each_point() -> None:
    points = cloud(500)
    pillars = group_into_pillars(points, SMALL.grid)
    bits = occupancy(pillars, SMALL.grid, 2, -3.2, 0.3, 16)
    expected = np.zeros_like(bits)
    for row, (start, count) in enumerate(zip(pillars.starts, pillars.counts, strict=True)):
        for x, y, z, _ in pillars.points[start : start + count]:
            fine = [int((np.float32(v) + np.float32(12.8)) * np.float32(2 / 0.32)) % 2 for v in (x, y)]
            expected[row, (fine[1] * 2 + fine[0]) * 16 + int(np.clip((z + 3.2) / 0.3, 0, 15))] = 1
    assert np.array_equal(bits, expected)


def test_tokens_come_first_and_padding_points_nowhere() -> None:
    tensors = prepare(cloud(4000), SMALL).tensors
    tokens = int((tensors["token_bias"] == 0).sum())
    padded = len(tensors["token_bias"])
    rows = len(tensors["statistics"])
    assert tokens > 0 and padded % SMALL.group == 0
    used = tensors["bev_rows"][tensors["bev_rows"] < rows]
    assert len(np.unique(used)) == len(used)
    assert not np.isin(np.arange(tokens, padded), used).any() and np.isin(np.arange(tokens), used).all()


def test_what_exceeds_the_capacity_is_counted() -> None:
    full = prepare(cloud(4000), SMALL)
    few = DetectionSettings(grid=SMALL.grid, max_pillars=256, max_tokens=128)
    cut = prepare(cloud(4000), few, pad_to_capacity=True)
    pillars = (full.tensors["bev_rows"] < len(full.tensors["statistics"])).sum() + full.overflow
    assert cut.overflow == pillars - 256
    assert cut.tensors["statistics"].shape == (256, 10) and cut.tensors["token_bias"].shape == (128,)


def test_empty_cloud_gives_padding_only() -> None:
    tensors = prepare(np.zeros((0, 4), np.float32), SMALL).tensors
    assert (tensors["bev_rows"] == len(tensors["statistics"])).all()


def test_decoding_undoes_encoding_at_any_yaw() -> None:
    rng = np.random.default_rng(1)
    boxes = rng.uniform([-10, -10, -1, 3, 1, 1, -np.pi], [10, 10, 1, 6, 2, 2, np.pi], (200, 7)).astype(np.float32)
    centres = cell_centres(rng.integers(0, 40, 200), rng.integers(0, 40, 200), SMALL)
    assert np.allclose(decode(encode(boxes, centres, SMALL), centres, SMALL), boxes, atol=1e-4)


def test_each_object_has_one_peak_at_its_cell_and_regresses_to_itself() -> None:
    boxes = np.array([[3.0, 4, 0, 4.5, 1.8, 1.5, 0.4], [-5, -5, 0, 0.6, 0.6, 1.7, 0]], np.float32)
    targets = draw_targets(boxes, np.array([0, 1]), np.array([50, 50]), SMALL)
    side = SMALL.grid.cell * SMALL.stride
    for label, box in enumerate(boxes):
        rows, columns = np.nonzero(targets.heatmap[label] == 1)
        assert len(rows) == 1 and np.abs(cell_centres(rows, columns, SMALL)[0] - box[:2]).max() <= side / 2
    size = targets.learn.shape[1]
    centres = cell_centres(targets.cells // size, targets.cells % size, SMALL)
    assert np.allclose(decode(targets.codes, centres, SMALL), targets.boxes, atol=1e-4)
    assert targets.weights.sum() == pytest.approx(2)


def test_nothing_is_learnt_where_an_object_is_hardly_seen() -> None:
    box = np.array([[3.0, 4, 0, 4.5, 1.8, 1.5, 0.4]], np.float32)
    targets = draw_targets(box, np.array([0]), np.array([2]), SMALL)
    assert targets.heatmap.max() == 0 and len(targets.cells) == 0
    row, column = (int((v + 12.8) / 0.64) for v in (4.0, 3.0))
    assert targets.learn[row, column] == 0 and targets.learn[0, 0] == 1
