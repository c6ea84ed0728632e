# SPDX-License-Identifier: Apache-2.0
"""RegFormer at full size: names and shapes of its checkpoint, images of sweeps, layers against loops, poses, export."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.registration.cylindrical import KITTI, cells, project  # noqa: E402
from perception_models.registration.official_export import export_regformer  # noqa: E402
from perception_models.registration.regformer import (  # noqa: E402
    INPUTS,
    Pose,
    RegFormer,
    as_grid,
    compose,
    first_rows,
    merged_rows,
    move,
)
from perception_models.registration.regformer_association import AllToAll  # noqa: E402
from perception_models.registration.regformer_points import (  # noqa: E402
    Grid,
    Reach,
    SetConv,
    neighbours,
    own_cells,
    weighted,
)
from perception_models.registration.regformer_swin import from_windows, shift_mask, to_windows  # noqa: E402
from perception_models.runtime import load_engine  # noqa: E402

torch.set_num_threads(1)
LISTING = Path(__file__).parent / "keys" / "regformer_kitti.txt"
LISTINGS = Path(os.environ.get("PERCEPTION_KEYS", Path(__file__).parents[2] / "shared" / "keys"))
NARROW = replace(KITTI, columns=256)  # the smallest that windows fit into


@pytest.fixture(scope="module")
def network() -> RegFormer:
    torch.manual_seed(0)
    return RegFormer(NARROW).eval()


def read_shapes(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def street(seed: int, columns: int = 256) -> npt.NDArray[np.float32]:
    """Image of ground and two walls, with one cell in five empty."""
    rng = np.random.default_rng(seed)
    azimuth, elevation = rng.uniform(-math.pi, math.pi, 40000), rng.uniform(KITTI.bottom, KITTI.top, 40000)
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], 1)
    ground, walls = 1.7 / np.maximum(-ray[:, 2], 1e-3), 8 / np.maximum(np.abs(ray[:, 1]), 1e-3)
    points = ray * np.minimum(np.minimum(ground, walls), 60)[:, None]
    image = project(points.astype(np.float32), replace(KITTI, columns=columns))
    image[rng.random(image.shape[:2]) < 0.2] = 0
    return image


def patch_grid(channels: int = 2) -> Grid:
    """4 x 8 cells, some of them empty."""
    torch.manual_seed(1)
    mask = (torch.rand(32, 1) > 0.3).float()
    return Grid(torch.randn(32, 3) * mask, mask, torch.rand(32, channels), (4, 8))


def test_names_and_shapes_equal_the_published_checkpoint() -> None:
    with torch.device("meta"):
        state = RegFormer().state_dict()
    assert {key: str(tuple(value.shape)) for key, value in state.items()} == read_shapes(LISTING)


def test_committed_shapes_equal_the_listing() -> None:
    if not LISTINGS.is_dir():
        pytest.skip(f"no key listings at {LISTINGS}; set PERCEPTION_KEYS")
    assert read_shapes(LISTING) == read_shapes(LISTINGS / "regformer_kitti.keys.txt")


def test_each_cell_holds_its_nearest_point() -> None:
    points = np.random.default_rng(0).normal(0, 10, (400, 3)).astype(np.float32) * [1, 1, 0.2]
    coarse = replace(KITTI, rows=8, columns=16)
    expected = np.zeros((8, 16, 3))
    for point in sorted(points, key=lambda point: -float(point @ point)):
        elevation = math.atan2(point[2], math.hypot(point[0], point[1]))
        row = math.floor((coarse.top - elevation) / (coarse.top - coarse.bottom) * 8)
        turn = (math.pi - math.atan2(point[1], point[0])) / (2 * math.pi)
        if 0 <= row < 8:
            expected[row, int(turn * 16) % 16] = point
    np.testing.assert_allclose(project(points.astype(np.float32), coarse), expected, rtol=1e-6)


def test_an_image_looks_from_behind_over_the_left_and_starts_above() -> None:
    around = np.array([[1, 0.01, 0], [0.01, 1, 0], [-0.01, -1, 0], [1, 0.01, -0.4]], np.float32)
    rows, columns = cells(around)
    np.testing.assert_array_equal(columns * 8 // KITTI.columns, [3, 2, 6, 3])
    assert rows[3] > rows[0] >= 0
    with pytest.raises(ValueError, match="points must be an array"):
        project(np.zeros((5, 2), np.float32))


def test_the_network_finds_the_cells_that_the_projection_does(network: RegFormer) -> None:
    points = np.random.default_rng(0).normal(0, 10, (500, 3)).astype(np.float32)
    rows, columns = cells(points, NARROW)
    found = network.cells(torch.from_numpy(points), (NARROW.rows, NARROW.columns)).numpy()
    off = (found[:, 0] != rows) | (found[:, 1] % NARROW.columns != columns)
    assert off.mean() < 0.01  # single precision, at borders of cells


def test_neighbours_equal_brute_force_over_the_window() -> None:
    grid, reach = patch_grid(), Reach((3, 5), 2.0, 6)
    near = neighbours(grid.points, own_cells(grid), grid, reach)
    for index, centre in enumerate(grid.points):
        row, column = divmod(index, 8)
        window = [r * 8 + c % 8 for r in range(row - 1, row + 2) if 0 <= r < 4 for c in range(column - 2, column + 3)]
        there = [cell for cell in window if grid.mask[cell] and (grid.points[cell] - centre).norm() <= 2]
        nearest = sorted(there, key=lambda cell: float((grid.points[cell] - centre).norm()))[:6]
        found = near.rows[index][near.present[index, :, 0] > 0].tolist()
        assert found == nearest


def test_a_set_convolution_equals_a_loop_over_neighbours() -> None:
    grid, reach = patch_grid(), Reach((3, 3), 1.5, 4)
    layer = SetConv(2, (4, 5), reach).eval()
    near = neighbours(grid.points, own_cells(grid), grid, reach)
    expected = torch.zeros(32, 5)
    for index in range(32):
        for row in near.rows[index][near.present[index, :, 0] > 0].tolist():
            given = torch.cat([grid.points[row] - grid.points[index], grid.features[row]])
            value = layer.mlp_convs(given[None, None])[0, 0] * grid.mask[index]
            expected[index] = torch.maximum(expected[index], value)
    torch.testing.assert_close(layer(grid.points, grid.mask, own_cells(grid), grid), expected)


def test_averages_leave_out_what_is_not_there() -> None:
    x, logits = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    present = torch.tensor([[1.0, 0, 1], [0, 0, 0]])[..., None]
    averages = weighted(x, logits, present)
    expected = (torch.softmax(logits[0, [0, 2]], 0) * x[0, [0, 2]]).sum(0)
    torch.testing.assert_close(averages, torch.stack([expected, torch.zeros(4)]))


def test_all_to_all_costs_do_not_depend_on_what_empty_cells_hold() -> None:
    layer, source, target = AllToAll(8, Reach((3, 5), 2.0, 3)).eval(), patch_grid(8), patch_grid(8)
    strange = target._replace(features=target.features + 5 * (1 - target.mask))
    costs = layer.forward_all(source, target)
    torch.testing.assert_close(costs, layer.forward_all(source, strange), atol=1e-5, rtol=1e-5)
    assert not costs[source.mask[:, 0] == 0].any() and costs[source.mask[:, 0] > 0].any()


def test_windows_return_to_their_places_and_rolled_parts_do_not_meet() -> None:
    x = torch.arange(64.0).reshape(64, 1)
    torch.testing.assert_close(from_windows(to_windows(x, (8, 8), 2), (8, 8), 2), x)
    places = to_windows(x, (8, 8), 2)[..., 0].long()
    far = ((places[:, :, None] // 8 - places[:, None] // 8).abs() > 3) | (
        (places[:, :, None] % 8 - places[:, None] % 8).abs() > 3
    )
    torch.testing.assert_close(shift_mask((8, 8), 2) < 0, far)


def test_the_first_point_of_a_block_stands_for_it() -> None:
    grid = patch_grid()
    rows = first_rows(grid, (2, 4))
    for index, row in enumerate(rows.tolist()):
        block = [
            8 * r + c
            for r in range(index // 2 * 2, index // 2 * 2 + 2)
            for c in range(index % 2 * 4, index % 2 * 4 + 4)
        ]
        assert row == next((cell for cell in block if grid.mask[cell]), block[0])
    np.testing.assert_array_equal(merged_rows(grid, (1, 2))[-1], [30, 31, 30, 31])
    np.testing.assert_array_equal(merged_rows(grid, (2, 2))[0], [0, 1, 8, 9])


def test_poses_compose_as_matrices_do() -> None:
    turns = Rotation.random(2, rng=np.random.default_rng(0))
    shifts = np.random.default_rng(1).normal(size=(2, 3))
    poses = [
        Pose(torch.from_numpy(turn.as_quat(scalar_first=True)), torch.from_numpy(shift))
        for turn, shift in zip(turns, shifts, strict=True)
    ]
    points = torch.randn(5, 3, dtype=torch.float64)
    expected = turns[1].apply(turns[0].apply(points.numpy()) + shifts[0]) + shifts[1]
    np.testing.assert_allclose(move(compose(poses[1], poses[0]), points), expected, atol=1e-12)


def test_poses_are_finite_unit_quaternions_also_for_empty_images(network: RegFormer) -> None:
    for source in (street(0), np.zeros((64, 256, 3), np.float32)):
        with torch.inference_mode():
            quaternions, translations = network(torch.from_numpy(source), torch.from_numpy(street(1)))
        assert quaternions.shape == (4, 4) and translations.shape == (4, 3)
        torch.testing.assert_close(quaternions.norm(dim=1), torch.ones(4))
        assert torch.isfinite(translations).all()


def test_every_weight_but_the_spare_ones_learns_from_the_finest_pose(network: RegFormer) -> None:
    quaternions, translations = network(torch.from_numpy(street(0)), torch.from_numpy(street(1)))
    network.zero_grad()
    (quaternions[-1].sum() + translations[-1].sum()).backward()
    idle = {name.split(".")[0] for name, weight in network.named_parameters() if weight.grad is None}
    assert idle == {"w_x", "w_q", "cost_volume1"}
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_levels_have_the_published_shapes() -> None:
    grid = as_grid(torch.zeros(KITTI.rows, KITTI.columns, 3))
    assert grid.shape == (64, 1792) and not grid.mask.any()
    masks = {key: shape for key, shape in read_shapes(LISTING).items() if key.endswith("1.attn_mask")}
    assert masks["swin3.blocks.1.attn_mask"] == "(7, 16, 16)"


def test_a_weights_folder_computes_what_torch_does(network: RegFormer, tmp_path: Path) -> None:
    folder = export_regformer(network, "narrow", tmp_path)
    images = {name: street(seed) for seed, name in enumerate(INPUTS, start=5)}
    with torch.inference_mode():
        expected = network(*(torch.from_numpy(image) for image in images.values()))
    with load_engine(folder, "onnxruntime", threads=1) as engine:
        outputs = engine(**images)
    np.testing.assert_allclose(outputs["quaternions"], expected[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(outputs["translations"], expected[1].numpy(), atol=1e-4)
