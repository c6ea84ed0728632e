# SPDX-License-Identifier: Apache-2.0
"""Samples against their truth, both networks, the losses, and a short run of the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perception_models.tracking.adaformer import OUT, AdaFormerBlock, Points
from perception_models.tracking.data import collate, make_sample
from perception_models.tracking.export import export, load_checkpoint
from perception_models.tracking.losses import right, tracking_loss
from perception_models.tracking.network import added, into
from perception_models.tracking.preprocess import Channel
from perception_models.tracking.regions import moved_box, offset_between
from perception_models.tracking.settings import TrackingSettings
from perception_models.tracking.siamese import build
from perception_models.tracking.tracklets import Tracklet, load, save, simulate_tracklets
from perception_models.tracking.train import Recipe, Trainer, materialised, train


@pytest.fixture(scope="module")
def tracklets() -> list[Tracklet]:
    return simulate_tracklets(3, seconds=0.8)


def test_files_keep_tracklets(tracklets: list[Tracklet], tmp_path: Path) -> None:
    save(tracklets, tmp_path / "drive.npz")
    for one, read in zip(tracklets, load(tmp_path / "drive.npz"), strict=True):
        assert one.label == read.label and len(one.glimpses) == len(read.glimpses)
        for a, b in zip(one.glimpses, read.glimpses, strict=True):
            np.testing.assert_allclose(a.points, b.points, atol=0.005)
            np.testing.assert_array_equal(a.box, b.box)


def test_the_true_offset_brings_foreground_into_the_box(tracklets: list[Tracklet]) -> None:
    rng, settings, checked = np.random.default_rng(0), TrackingSettings(), 0
    cars = [one for one in tracklets if one.label == 0]
    for k in range(60):
        sample = make_sample(cars[k % len(cars)], cars, rng, settings)
        size, half = np.asarray(sample.truth["size"]), settings.queries[0]
        own = np.asarray(sample.truth["foreground"])[:half] > 0
        if not sample.truth["seen"] or not own.any():
            continue
        box = moved_box(np.array([0, 0, 0, *size, 0]), sample.truth["offset"])
        xyz = sample.tensors["current"][:half][own][:, : Channel.VALID] * size
        from_box = [offset_between(box, np.array([*point, 1, 1, 1, 0]))[:3] for point in xyz]
        # Noise, and mirrors of cars, stick out.
        assert (np.abs(from_box) < 0.55).all(axis=1).mean() > 0.8
        checked += 1
    assert checked > 20


def test_offsets_in_units_of_the_size_compose_as_boxes_do() -> None:
    box = np.array([0, 0, 0, 4.0, 1.6, 1.5, 0])
    first, change = np.array([0.1, -0.2, 0.1, 0.4]), np.array([0.05, 0.1, -0.1, -0.2])
    context = torch.zeros(1, 15)
    context[:, 3] = np.log(4.0 / 1.6)
    tensors = [torch.tensor(value, dtype=torch.float32)[None] for value in (first, change)]
    expected = offset_between(box, moved_box(moved_box(box, first), change))
    np.testing.assert_allclose(added(tensors[0], tensors[1], context)[0], expected, atol=1e-6)
    point = moved_box(moved_box(box, first), np.array([0.3, 0.2, 0.1, 0.0]))[:3] / box[3:6]
    seen = into(torch.tensor(point, dtype=torch.float32)[None, None], tensors[0], context)
    np.testing.assert_allclose(seen[0, 0], [0.3, 0.2, 0.1], atol=1e-5)


def test_a_group_is_the_nearest_points_by_the_deformed_distance() -> None:
    torch.manual_seed(0)
    block, xyz = AdaFormerBlock(8, 16, 5), torch.rand(2, 40, 3)
    empty = (torch.rand(2, 40) < 0.3).float()
    centre, scale = torch.rand(2, 6, 3), torch.rand(2, 6, 3) + 0.1
    rows = block._nearest(centre, scale, Points(xyz, torch.rand(2, 40, 8), empty))
    distance = (((xyz[:, None] - centre[:, :, None]) / scale[:, :, None]) ** 2).sum(-1) + OUT * empty[:, None]
    expected = distance.argsort(dim=-1)[..., :5]
    np.testing.assert_array_equal(rows.sort().values, expected.sort().values)


@pytest.mark.parametrize("kind", ["motion", "siamese"])
def test_empty_rows_change_nothing(kind: str, tracklets: list[Tracklet]) -> None:
    torch.manual_seed(0)
    settings = TrackingSettings(kind=kind)
    network = materialised(build(settings)).eval()
    samples = [make_sample(one, tracklets, np.random.default_rng(1), settings) for one in tracklets[:4]]
    inputs, truth = collate(samples)
    with torch.no_grad():
        one = network(**inputs)
        inputs["current"][..., 0] += 0.3 * (1 - inputs["current"][..., Channel.VALID])
        other = network(**inputs)
        emptied = network(torch.zeros_like(inputs["current"]), inputs["template"], inputs["context"])
    np.testing.assert_allclose(one.offset, other.offset, atol=1e-5)
    assert all(torch.isfinite(value).all() for value in vars(emptied).values())
    assert all(np.isfinite(value) for value in tracking_loss(one, truth)[1].values())


def test_right_is_what_the_score_promises() -> None:
    truth = {
        "offset": torch.tensor([[0.1, 0, 0, 0]] * 3),
        "size": torch.tensor([[4.0, 2.0, 1.5]] * 3),
        "seen": torch.tensor([1.0, 1.0, 0.0]),
    }
    offsets = torch.tensor([[0.34, 0, 0, 2.0], [0.36, 0, 0, 0], [0.1, 0, 0, 0]])
    assert right(offsets, truth).tolist() == [1.0, 0.0, 0.0]


def test_a_network_learns_a_few_samples_by_heart(tracklets: list[Tracklet]) -> None:
    settings = TrackingSettings(channels=(16, 24, 32))
    trainer = Trainer(Recipe(steps=60, warm_up=5), settings)
    rng = np.random.default_rng(0)
    batch = collate([make_sample(one, tracklets, rng, settings) for one in tracklets[:8]])
    losses = [trainer.train_step(*batch)["loss"] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


def test_a_short_run_can_be_resumed_and_exported(tracklets: list[Tracklet], tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    people = [replace(one, label=label) for label in (1, 2) for one in tracklets[:2]]
    for index in range(6):
        save([*tracklets, *people], pool / f"{1000 + index:08d}.npz")
    for steps in (2, 3):
        recipe = Recipe(steps=steps, batch_size=4, workers=0, drives=6)
        checkpoint = train(recipe, tmp_path / "run", pool)
    assert torch.load(checkpoint, weights_only=True)["step"] == 3
    path = export(load_checkpoint(checkpoint), tmp_path / "weights")
    assert path.is_file() and (path.parent / "model.yaml").is_file()


def test_unknown_categories_and_kinds_are_refused() -> None:
    assert Recipe(categories="cyclist").labels == (2,)
    with pytest.raises(ValueError, match="tram"):
        _ = Recipe(categories="tram").labels
    with pytest.raises(ValueError, match="unknown kind"):
        build(TrackingSettings(kind="other"))
