# SPDX-License-Identifier: Apache-2.0
"""Training sequences against the rooms they show, losses by hand, and a short run of the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch", reason="torch is not installed")

from perception_models.reconstruction import data  # noqa: E402
from perception_models.reconstruction.calibrate import calibrate, fit  # noqa: E402
from perception_models.reconstruction.heads import Outputs  # noqa: E402
from perception_models.reconstruction.losses import DOUBT, quaternions, reconstruction_loss  # noqa: E402
from perception_models.reconstruction.settings import COMPACT  # noqa: E402
from perception_models.reconstruction.train import Recipe, Trainer, train  # noqa: E402
from perception_models.simulation.room_catalogue import PROCEDURAL  # noqa: E402
from perception_models.simulation.room_tours import Tour, Tours, make_tour  # noqa: E402

TINY = replace(
    COMPACT,
    width=64,
    height=32,
    focal=54.0,
    encoder=64,
    encoder_blocks=1,
    encoder_heads=4,
    decoder=32,
    decoder_blocks=4,
    decoder_heads=2,
    state=12,
    memory=4,
    features=16,
    layers=(16, 16, 16, 16),
    last=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tours")
    make_tour(11, PROCEDURAL, on_path=18, close=2).save(folder / "tour-000000")
    return folder


@pytest.fixture(scope="module")
def tour(folder: Path) -> Tour:
    return Tour.load(folder / "tour-000000")


def batch_of(tour: Tour, length: int, single: bool = False, seed: int = 0) -> data.Batch:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    take = data.single_views if single else data.stretch
    return data.prepared(data.collate([take(tour, length, rng) for _ in range(4)]), COMPACT)


def test_points_of_a_later_view_lie_on_what_the_first_one_saw(tour: Tour) -> None:
    """Mirrored or not: only then do poses, depth and the canonical camera belong together."""
    batch = batch_of(tour, 3)
    for row in range(4):
        points = batch.points[row, 2][batch.valid[row, 2]].numpy()
        pixels = points[:, :2] / points[:, 2:] * COMPACT.focal + (np.array([COMPACT.width, COMPACT.height]) - 1) / 2
        inside = (points[:, 2] > 0.1) & (pixels > 0).all(1) & (pixels < (COMPACT.width - 1, COMPACT.height - 1)).all(1)
        x, y = pixels[inside].round().astype(int).T
        seen = batch.points_self[row, 0, :, :, 2].numpy()[y, x]
        assert inside.sum() > 2000
        assert np.median(np.abs(points[inside, 2] / np.maximum(seen, 1e-3) - 1)) < 0.02


def test_single_views_are_each_their_own_world(tour: Tour) -> None:
    batch = batch_of(tour, 3, single=True)
    assert batch.fresh.all()
    np.testing.assert_allclose(batch.poses.numpy(), np.broadcast_to(np.eye(4), batch.poses.shape), atol=1e-5)
    torch.testing.assert_close(batch.points, batch.points_self, atol=1e-4, rtol=0)


def test_poses_are_seen_from_the_last_view_that_began_anew() -> None:
    rng = np.random.default_rng(1)
    poses = np.tile(np.eye(4), (1, 4, 1, 1))
    poses[0, :, :3, :3] = Rotation.random(4, random_state=1).as_matrix()
    poses[0, :, :3, 3] = rng.normal(size=(4, 3))
    found = data.relative(torch.from_numpy(poses), torch.tensor([[True, False, True, False]])).numpy()[0]
    for index, first in enumerate((0, 0, 2, 2)):
        np.testing.assert_allclose(found[index], np.linalg.inv(poses[0, first]) @ poses[0, index], atol=1e-12)


def test_a_longer_lens_shows_less_of_the_same(tour: Tour) -> None:
    """What a camera with twice the canonical focal length saw fills the middle half of the canonical image."""
    rgb = torch.full((1, 1, 168, 224, 3), 255, dtype=torch.uint8)
    depth = torch.full((1, 1, 168, 224), 2.0)
    _, deep, inside = data.canonical(rgb, depth, torch.tensor([[2 * COMPACT.focal]]), COMPACT)
    assert inside[0, 0, 0, 80, 112] == 1 and inside[0, 0, 0, 80, 40] == 0
    assert inside.mean() == pytest.approx(112 * 84 / (224 * 160), rel=0.02)
    assert deep[0, 0, 80, 112] == 2 and deep[0, 0, 80, 40] == 0


def test_a_tour_is_left_in_the_order_of_its_path(tour: Tour) -> None:
    for seed in range(20):
        views = data.stretch(tour, 16, np.random.default_rng(seed))
        steps = np.linalg.norm(np.diff(views.poses[:, :3, 3], axis=0), axis=1)
        assert steps.max() < 1.0 and views.fresh.tolist() == [True] + 15 * [False]


def test_quaternions_are_those_of_scipy() -> None:
    rotations = Rotation.concatenate([Rotation.random(50, random_state=2), Rotation.from_euler("x", [[0.0], [np.pi]])])
    expected = rotations.as_quat(canonical=True, scalar_first=True)
    found = quaternions(torch.from_numpy(rotations.as_matrix())).numpy()
    np.testing.assert_allclose(np.abs((found * expected).sum(1)), 1, atol=1e-6)


def test_the_truth_costs_only_its_confidence(tour: Tour) -> None:
    batch = batch_of(tour, 2)
    points, own = batch.points.flatten(0, 1), batch.points_self.flatten(0, 1)
    poses = batch.poses.flatten(0, 1)
    pose = torch.cat([poses[:, :3, 3], quaternions(poses[:, :3, :3])], 1)
    sure = torch.full(points.shape[:3], 2.0)
    colours = batch.rgb.flatten(0, 1)
    right = Outputs(own, sure, points, sure, colours.permute(0, 2, 3, 1), pose)
    loss, figures = reconstruction_loss(right, batch, colours)
    assert float(loss) == pytest.approx(-2 * DOUBT * np.log(2), abs=1e-4)
    for factor in (1.1, 1 / 1.1):  # too far costs as much as too near
        _, figures = reconstruction_loss(right._replace(points_self=factor * own), batch, colours)
        assert float(figures["self"]) == pytest.approx(0.1 / np.sqrt(1.1), rel=0.02)


def test_the_recipe_learns_resumes_and_keeps_its_settings(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(steps=4, images=8, workers=0, asked=1.0)
    trainer = train(recipe, tmp_path, folder, TINY)
    assert trainer.step == 4 and trainer.stage().length == 16
    again = Trainer(recipe, TINY)
    for name in ("checkpoint.pt", "small.pt"):
        again.load(tmp_path / name)
        assert again.step == 4
        for key, value in trainer.average.state_dict().items():
            torch.testing.assert_close(value, again.average.state_dict()[key], atol=2e-3, rtol=2e-3)


def test_calibration_leaves_all_but_the_confidences(folder: Path) -> None:
    torch.manual_seed(0)
    network = Trainer(Recipe(), TINY).average
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tours = Tours(folder)
    tours.refresh()
    figures = calibrate(network, tours, sequences=2)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    heads = ("dpt_self", "dpt_cross")
    assert changed == {f"downstream_head.{head}.head.4.{part}" for head in heads for part in ("weight", "bias")}
    for name in changed:
        torch.testing.assert_close(network.state_dict()[name][:3], before[name][:3])
    assert figures.keys() == {"own_before", "own_after", "world_before", "world_after"}


def test_a_calibrated_confidence_is_doubt_over_error() -> None:
    """Where a feature tells the error, the cost is least for a confidence of DOUBT / error."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 5, generator=rng)
    error = DOUBT / (1 + torch.exp(0.7 * features[:, 1] + 0.3))
    layer = torch.nn.Conv2d(5, 4, 1)
    figures = fit(layer, features, error)
    raw = layer(features[..., None, None])[:, 3, 0, 0]
    torch.testing.assert_close(1 + raw.exp(), DOUBT / error, rtol=0.02, atol=0.02)
    assert figures["after"] < figures["before"] == pytest.approx(float(error.mean()))


def test_a_few_steps_on_one_sequence_lower_the_loss(tour: Tour) -> None:
    raw = data.collate([data.stretch(tour, 4, np.random.default_rng(0))])
    trainer = Trainer(Recipe(steps=1000, warm_up=1, learning_rate=2e-3, asked=0), TINY)
    losses = [float(trainer.train_step(raw)["loss"]) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3]), losses
