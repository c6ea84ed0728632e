# SPDX-License-Identifier: Apache-2.0
"""The recipe of the registration network: pairs with their truth, losses, and resumption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.registration.preprocess import Cloud

torch = pytest.importorskip("torch", reason="torch is for the workshop only")

from perception_models.registration.data import Pair, make_pair, sample_pair  # noqa: E402
from perception_models.registration.export import example_cloud  # noqa: E402
from perception_models.registration.losses import (  # noqa: E402
    assignment_loss,
    best_match_is_right,
    binary,
    overlap_circle_loss,
    precision_loss,
)
from perception_models.registration.network import NetworkSettings  # noqa: E402
from perception_models.registration.scenes import Scene  # noqa: E402
from perception_models.registration.train import Recipe, Trainer  # noqa: E402

SMALL = NetworkSettings(channels=32, super_channels=32, learned=16, heads=2, blocks=1, relative=8)
TURN = se3.from_yaw_pitch_roll(0.4, 0.1, -0.2, (1.0, 0.5, -0.3))


@pytest.fixture(scope="module")
def scene() -> Scene:
    """The two sides of a corner, overlapping in the middle; the second in a frame of its own."""
    cloud = example_cloud(0)
    along = cloud.points[:, 0]
    first, second = part(cloud, along < 0.0), part(cloud, along > -0.4)
    moved = Cloud(
        se3.apply(TURN, second.points).astype(np.float32),
        (second.normals @ TURN[:3, :3].T).astype(np.float32),
        second.features,
        second.settings,
    )
    poses = np.stack([np.eye(4), se3.inverse(TURN)])
    return Scene([first, moved], poses, np.array([[1, 0.5], [0.5, 1]], np.float32))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Waiting for a second thread costs small tensors more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def part(cloud: Cloud, keep: np.ndarray) -> Cloud:
    return Cloud(cloud.points[keep], cloud.normals[keep], cloud.features[keep], cloud.settings)


@pytest.fixture(scope="module")
def pair(scene: Scene) -> Pair:
    made = make_pair(scene.clouds[0], scene.clouds[1], TURN, np.random.default_rng(0))
    assert made is not None
    return made


def test_positives_are_the_points_that_coincide_when_truly_placed(scene: Scene, pair: Pair) -> None:
    source = se3.apply(TURN, scene.clouds[0].points[pair.rows[0].numpy()])
    target = scene.clouds[1].points[pair.rows[1].numpy()]
    distance = np.linalg.norm(source[:, None] - target[None], axis=-1)

    np.testing.assert_array_equal(pair.positive.numpy(), distance < 1.5 * 0.05)
    assert pair.positive.any(1).sum() > 100
    assert pair.matchable[0][pair.positive.any(1)].all() and pair.matchable[1][pair.positive.any(0)].all()


def test_overlaps_of_super_points_are_shares(pair: Pair) -> None:
    assert pair.overlaps.shape == (len(pair.source["mask"]), len(pair.target["mask"]))
    assert 0 < pair.overlaps.max() <= 1
    # What is far from the seam overlaps with nothing.
    assert (pair.overlaps.sum(1) == 0).any() and (pair.overlaps.sum(0) == 0).any()


def test_pairs_without_common_surface_are_not_used(scene: Scene) -> None:
    far = se3.make(np.eye(3), (50.0, 0.0, 0.0))
    assert make_pair(scene.clouds[0], scene.clouds[1], far, np.random.default_rng(0)) is None


def test_a_scene_gives_pairs_within_the_overlap_asked_for(scene: Scene) -> None:
    rng = np.random.default_rng(0)
    assert sample_pair(scene, rng, least=0.6, most=0.9) is None
    assert sample_pair(scene, rng, least=0.1, most=0.9) is not None


def test_a_saved_scene_comes_back(scene: Scene, tmp_path: Path) -> None:
    scene.save(tmp_path / "scene.npz")
    back = Scene.load(tmp_path / "scene.npz")

    np.testing.assert_array_equal(back.clouds[1].points, scene.clouds[1].points)
    np.testing.assert_allclose(back.clouds[1].features, scene.clouds[1].features, atol=1e-3)
    np.testing.assert_array_equal(back.poses, scene.poses)
    assert back.clouds[0].settings == scene.clouds[0].settings
    assert [path.name for path in tmp_path.iterdir()] == ["scene.npz"]


def test_the_assignment_loss_is_the_log_likelihood_of_the_dual_softmax() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.5, 1.0, 0.0]])
    positive = torch.tensor([[True, False, True], [False, False, False]])
    row = torch.softmax(logits, 1)[0]
    columns = torch.softmax(logits, 0)
    expected = -0.5 * torch.log(row[0] + row[2]) - 0.25 * (torch.log(columns[0, 0]) + torch.log(columns[0, 2]))

    assert assignment_loss(logits, positive).item() == pytest.approx(expected.item(), abs=1e-6)
    assert assignment_loss(logits, torch.zeros_like(positive)).item() == 0


def test_the_precision_loss_is_the_share_of_confidence_on_true_matches() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.5, 1.0, 0.0]])
    prior = torch.tensor([[-1.0], [0.0]]).expand(2, 3)
    positive = torch.tensor([[True, False, True], [False, False, False]])
    confidence = (torch.softmax(logits, 0) * torch.softmax(logits, 1) * prior.exp()).sqrt()

    expected = -torch.log(confidence[positive].sum() / confidence.sum())
    assert precision_loss(logits, prior, positive).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_point_is_right_where_its_likeliest_partner_is_true() -> None:
    logits = torch.tensor([[5.0, 0.0], [5.0, 4.5], [0.0, 0.0]])
    positive = torch.tensor([[True, False], [False, True], [False, False]])
    rows, columns = best_match_is_right(logits, positive)

    # The second point takes the second column, because it shares the first one with another.
    assert rows.tolist() == [True, True, False] and columns.tolist() == [True, True]


def test_both_labels_of_matchability_count_alike() -> None:
    labels = torch.tensor([True] + [False] * 9)
    all_yes, all_no = torch.full((10,), 4.0), torch.full((10,), -4.0)
    assert binary(all_yes, labels).item() == pytest.approx(binary(all_no, labels).item(), rel=1e-5)


def test_the_circle_loss_prefers_overlapping_surroundings_to_be_near() -> None:
    eye = torch.eye(4)
    overlaps = 0.5 * eye
    right, wrong = overlap_circle_loss(eye, eye, overlaps), overlap_circle_loss(eye, eye.roll(1, 0), overlaps)

    assert right < 0.2 * wrong
    assert overlap_circle_loss(eye, eye, torch.zeros(4, 4)).item() == 0


def test_a_few_steps_lower_the_loss(pair: Pair) -> None:
    trainer = Trainer(Recipe(warm_up=1, learning_rate=3e-3), SMALL)
    losses = [trainer.train_step([pair])["loss"] for _ in range(12)]

    assert losses[-1] < 0.9 * losses[0]


def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(pair: Pair, tmp_path: Path) -> None:
    whole = Trainer(Recipe(steps=1000), SMALL)
    for _ in range(2):
        whole.train_step([pair])
    whole.save(tmp_path / "checkpoint.pt")
    stopped = whole.seconds
    expected = whole.train_step([pair])
    resumed = Trainer(Recipe(steps=1000, seed=9), SMALL)
    resumed.resume(tmp_path / "checkpoint.pt")
    assert resumed.step == 2 and resumed.seconds == stopped

    assert resumed.train_step([pair]) == pytest.approx(expected, rel=1e-5)
    for name, value in whole.average.state_dict().items():
        torch.testing.assert_close(resumed.average.state_dict()[name], value)
