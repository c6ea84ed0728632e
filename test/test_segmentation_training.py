# SPDX-License-Identifier: Apache-2.0
"""Clicks and boxes against their masks, views against the room, the loss by hand, and a short run of the recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from perception_models.segmentation.compact_settings import CompactSettings  # noqa: E402
from perception_models.segmentation.data import (  # noqa: E402
    collate,
    first_prompts,
    make_sample,
    masks_of,
    next_clicks,
)
from perception_models.segmentation.losses import mask_loss  # noqa: E402
from perception_models.segmentation.train import Recipe, Trainer, train  # noqa: E402
from perception_models.segmentation.views import room_views  # noqa: E402
from perception_models.simulation.room_catalogue import PROCEDURAL  # noqa: E402
from perception_models.simulation.rooms import RoomView  # noqa: E402

SETTINGS = CompactSettings(width=96, height=64, channels=32, coarse=48, blocks=1, heads=3, fine=8, points=4)


@pytest.fixture(scope="module")
def views() -> list[RoomView]:
    return list(room_views(np.random.default_rng(3), 4, SETTINGS.width, SETTINGS.height, PROCEDURAL))


@pytest.fixture
def masks() -> np.ndarray:
    found = np.zeros((3, 32, 48), bool)
    found[0, 4:20, 6:30], found[1, 10:14, 40:47], found[2, 25:, :9] = True, True, True
    return found


def test_views_show_things_in_colour_and_depth(views: list[RoomView]) -> None:
    assert len(views) >= 2
    for view in views:
        assert view.frame.rgb.std() > 5 and (view.frame.depth > 0).mean() > 0.3
    assert any((view.instances > 0).mean() > 0.1 for view in views)


def test_masks_are_things_and_never_the_building() -> None:
    instances = np.zeros((64, 96), np.int32)
    instances[10:40, 10:50] = 4
    instances[50:52, 60:62] = 5  # too small
    instances[::4, 80:] = 6  # hair
    (mask,) = masks_of(instances)
    np.testing.assert_array_equal(mask, instances[::2, ::2] == 4)


def test_a_sample_keeps_image_depth_and_masks_together(views: list[RoomView]) -> None:
    for seed in range(6):
        sample = make_sample(views[0], 3, np.random.default_rng(seed))
        if sample is None:
            continue
        half = views[0].instances[::2, ::2]
        either = [half, half[:, ::-1]]
        assert any(all(len(np.unique(side[mask])) == 1 for mask in sample.masks) for side in either)
        assert sample.rgb.min() >= 0 and sample.rgb.max() <= 1 and sample.rgb.dtype == np.float32


def test_clicks_are_on_their_masks_and_boxes_around_them(masks: np.ndarray) -> None:
    for seed in range(20):
        coordinates, labels = first_prompts(masks, 2, 4, np.random.default_rng(seed))
        for mask, place, kind in zip(masks, coordinates, labels, strict=True):
            if kind[0] == 1:
                x, y = ((place[0] + 0.5) / 2 - 0.5).round().astype(int)
                assert mask[y, x] and (kind[1:] == -1).all()
            else:
                rows, columns = np.nonzero(mask)
                side = np.array([np.ptp(columns), np.ptp(rows)]) * 2
                corners = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]]) * 2 + 0.5
                assert kind[:2].tolist() == [2, 3] and (np.abs(place[:2] - corners) <= 0.1 * side + 1e-3).all()


def test_a_click_more_goes_to_what_is_wrong_and_says_how(masks: np.ndarray) -> None:
    answer = masks.copy()
    answer[0, 4:20, 20:30] = False  # missed
    answer[1, 20:24, 20:24] = True  # too much
    clicks, labels = next_clicks(answer != masks, masks, 2, np.random.default_rng(0))
    assert labels.tolist() == [1, 0, -1]
    x, y = ((clicks + 0.5) / 2 - 0.5).round().astype(int).T
    assert masks[0, y[0], x[0]] and not answer[0, y[0], x[0]]
    assert not masks[1, y[1], x[1]] and answer[1, y[1], x[1]]


def test_only_the_best_of_the_masks_must_be_right(masks: np.ndarray) -> None:
    truth = torch.from_numpy(masks)
    right = 20 * (truth.float() * 2 - 1)
    logits = torch.stack([right, -right, torch.zeros_like(right)], 1)
    loss, chosen, iou = mask_loss(logits, torch.tensor([[1.0, 0.0, 0.0]] * 3), truth)
    np.testing.assert_allclose(iou[:, 0].numpy(), 1.0)
    np.testing.assert_allclose(chosen.numpy(), 1.0)
    worse, chosen, _ = mask_loss(-logits, torch.tensor([[1.0, 0.0, 0.0]] * 3), truth)
    assert chosen.max() == 0 and torch.isfinite(worse) and loss < 1.0


def test_the_recipe_learns_resumes_and_keeps_its_settings(views: list[RoomView], tmp_path: Path) -> None:
    recipe = Recipe(steps=2, batch_size=1, prompts=2, workers=0)
    trainer = train(recipe, tmp_path, SETTINGS)
    assert trainer.step == 2 and (tmp_path / "checkpoint.pt").exists()
    again = Trainer(recipe, SETTINGS)
    again.load(tmp_path / "checkpoint.pt")
    assert again.step == 2
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    again.load(tmp_path / "small.pt")
    for name, value in trainer.average.state_dict().items():
        assert torch.allclose(value.float(), again.network.state_dict()[name].float(), rtol=1e-3, atol=1e-3), name


def test_a_few_steps_on_one_image_lower_the_loss(views: list[RoomView]) -> None:
    samples = [sample for view in views if (sample := make_sample(view, 4, np.random.default_rng(0))) is not None]
    batch = collate(samples[:1])
    trainer = Trainer(Recipe(steps=1000, warm_up=1, prompts=4), SETTINGS)
    losses = [trainer.train_step(*batch)["loss"] for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3]), losses
