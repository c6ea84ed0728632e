# SPDX-License-Identifier: Apache-2.0
"""Clicks and boxes against their masks, views against the room, the loss by hand, and a short run of the recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from perception_models.segmentation.clicks import click_in, first_prompts, next_clicks  # noqa: E402
from perception_models.segmentation.compact_settings import CompactSettings  # noqa: E402
from perception_models.segmentation.data import collate, make_sample  # noqa: E402
from perception_models.segmentation.losses import mask_loss  # noqa: E402
from perception_models.segmentation.train import Recipe, Trainer, train  # noqa: E402
from perception_models.simulation.room_catalogue import PROCEDURAL  # noqa: E402
from perception_models.simulation.room_tours import Tour, make_tour, whole_parts  # noqa: E402

SETTINGS = CompactSettings(width=448, height=336, channels=32, coarse=48, blocks=1, heads=3, fine=8, points=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tours")
    make_tour(5, PROCEDURAL, on_path=1, close=5).save(folder / "tour-000000")
    return folder


@pytest.fixture(scope="module")
def tour(folder: Path) -> Tour:
    return Tour.load(folder / "tour-000000")


@pytest.fixture
def masks() -> torch.Tensor:
    found = torch.zeros(3, 32, 48, dtype=torch.bool)
    found[0, 4:20, 6:30], found[1, 10:14, 40:47], found[2, 25:, :9] = True, True, True
    return found


def test_views_show_things_in_colour_and_depth(tour: Tour) -> None:
    assert len(tour.rgb) >= 4
    for rgb, depth, parts, things in zip(tour.rgb, tour.sensed, tour.parts, tour.things, strict=True):
        assert rgb.std() > 5 and (depth > 0).mean() > 0.3
        assert things <= parts.max() and (parts == 0).mean() < 0.5
    assert any(((parts > 0) & (parts <= n)).mean() > 0.1 for parts, n in zip(tour.parts, tour.things, strict=True))


def test_whole_parts_are_neither_small_nor_hair() -> None:
    parts = np.zeros((64, 96), np.uint8)
    parts[10:40, 10:50] = 4
    parts[50:52, 60:62] = 5  # too small
    parts[::4, 80:] = 6  # hair
    assert np.flatnonzero(whole_parts(parts)).tolist() == [4]


def test_a_sample_keeps_image_depth_and_parts_together(tour: Tour) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sample = make_sample(tour, 4, rng)
        assert sample is not None
        (view, turned) = next(
            (view, turned)
            for view in range(len(tour.rgb))
            for turned in (1, -1)
            if np.array_equal(tour.rgb[view][:, ::turned].transpose(2, 0, 1), sample.rgb)
        )
        np.testing.assert_array_equal(
            sample.parts, tour.parts[view][::2, ::2] if turned == 1 else tour.parts[view][::2, ::2][:, ::-1]
        )
        assert tour.whole[view][sample.asked].all()
        if sample.depth[1].any():
            np.testing.assert_array_equal(sample.depth[1] > 0, tour.sensed[view][:, ::turned] > 0)


def test_clicks_are_on_their_masks_and_boxes_around_them(masks: torch.Tensor) -> None:
    kinds = set()
    for seed in range(40):
        torch.manual_seed(seed)
        coordinates, labels = first_prompts(masks, 2, 8)
        for mask, places, marks in zip(masks.numpy(), coordinates.numpy(), labels.numpy(), strict=True):
            if marks[0] == 2:
                rows, columns = np.nonzero(mask)
                side = np.array([np.ptp(columns), np.ptp(rows)]) * 2
                corners = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]]) * 2 + 0.5
                assert marks[:3].tolist() == [2, 3, -1] and (np.abs(places[:2] - corners) <= 0.1 * side + 1e-3).all()
                kinds.add("box")
            else:
                clicks = int((marks == 1).sum())
                x, y = ((places[:clicks] + 0.5) / 2 - 0.5).round().astype(int).T
                assert mask[y, x].all() and (marks[:clicks] == 1).all() and (marks[clicks:] == -1).all()
                kinds.add(clicks)
    assert kinds == {"box", 1, 2, 3, 4, 5}


def test_half_of_the_clicks_are_where_a_mask_is_thickest(masks: torch.Tensor) -> None:
    torch.manual_seed(0)
    places = torch.stack([click_in(masks[:1])[0] for _ in range(400)]).numpy()
    deep = (np.abs(places - (17.5, 11.5)) <= (6.5, 2.5)).all(1).mean()  # a block of 24 x 16, eroded at least six times
    uniform = 14 * 6 / (24 * 16)
    assert 0.5 + 0.3 * uniform < deep < 0.5 + 0.9 * uniform


def test_a_click_more_goes_to_what_is_wrong_and_says_how(masks: torch.Tensor) -> None:
    answer = masks.clone()
    answer[0, 4:20, 20:30] = False  # missed
    answer[1, 20:24, 20:24] = True  # too much
    clicks, labels = next_clicks(answer != masks, masks, 2)
    assert labels.tolist() == [1, 0, -1]
    x, y = ((clicks + 0.5) / 2 - 0.5).round().long().T
    assert masks[0, y[0], x[0]] and not answer[0, y[0], x[0]]
    assert not masks[1, y[1], x[1]] and answer[1, y[1], x[1]]


def test_only_the_best_of_the_masks_must_be_right(masks: torch.Tensor) -> None:
    truth = masks
    right = 20 * (truth.float() * 2 - 1)
    logits = torch.stack([right, -right, torch.zeros_like(right)], 1)
    loss, chosen, iou = mask_loss(logits, torch.tensor([[1.0, 0.0, 0.0]] * 3), truth)
    np.testing.assert_allclose(iou[:, 0].numpy(), 1.0)
    np.testing.assert_allclose(chosen.numpy(), 1.0)
    worse, chosen, _ = mask_loss(-logits, torch.tensor([[1.0, 0.0, 0.0]] * 3), truth)
    assert chosen.max() == 0 and torch.isfinite(worse) and loss < 1.0


def test_the_recipe_learns_resumes_and_keeps_its_settings(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(steps=2, batch_size=1, prompts=2, workers=0)
    trainer = train(recipe, tmp_path, folder, SETTINGS)
    assert trainer.step == 2 and (tmp_path / "checkpoint.pt").exists()
    again = Trainer(recipe, SETTINGS)
    again.load(tmp_path / "checkpoint.pt")
    assert again.step == 2
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    again.load(tmp_path / "small.pt")
    for name, value in trainer.average.state_dict().items():
        assert torch.allclose(value.float(), again.network.state_dict()[name].float(), rtol=1e-3, atol=1e-3), name


def test_a_few_steps_on_one_image_lower_the_loss(tour: Tour) -> None:
    sample = make_sample(tour, 4, np.random.default_rng(0))
    assert sample is not None
    batch = collate([sample])
    trainer = Trainer(Recipe(steps=1000, warm_up=1, prompts=4), SETTINGS)
    losses = [float(trainer.train_step(*batch)["loss0"]) for _ in range(20)]
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:3]), losses
