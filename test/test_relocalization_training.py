# SPDX-License-Identifier: Apache-2.0
"""Training the network of a scene: samples with true places, the loss, and a short run that learns a small scene."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.geometry import se3  # noqa: E402
from perception_models.geometry.cameras import RgbdFrame, camera_matrix, project  # noqa: E402
from perception_models.relocalization.data import Batch, Sample, make_batch, samples_of  # noqa: E402
from perception_models.relocalization.losses import ALONG_SIGHT, scene_loss, sight_error  # noqa: E402
from perception_models.relocalization.network import NetworkSettings  # noqa: E402
from perception_models.relocalization.rootsift import RootSift  # noqa: E402
from perception_models.relocalization.scene_network import SceneNetwork  # noqa: E402
from perception_models.relocalization.train import Recipe, Trainer, train_on_frames, train_scene  # noqa: E402

torch.set_num_threads(1)
DIMENSIONS = 16


@dataclass(frozen=True)
class Landmarks:
    """A scene of points and lines whose descriptors are known."""

    places: np.ndarray  # (P, 3)
    descriptors: np.ndarray  # (P, D)

    @staticmethod
    def random(count: int, rng: np.random.Generator) -> Landmarks:
        return Landmarks(rng.uniform(-2, 2, (count, 3)), unit(rng.normal(size=(count, DIMENSIONS))))

    def image(self, points: int, lines: int, rng: np.random.Generator) -> Sample:
        """Some of them as an image would show them, with noise; a line runs from one landmark to another."""
        chosen = rng.choice(len(self.places), points, replace=False)
        ends = rng.choice(len(self.places), (lines, 2))
        share = np.linspace(0, 1, 12)[:, None]
        tokens = self.descriptors[ends[:, :1]] * (1 - share) + self.descriptors[ends[:, 1:]] * share
        places = np.concatenate([self.places[chosen], self.places[ends].reshape(-1, 3)])
        rays = unit(places - np.array([0.0, 0.0, -5.0]))
        noisy = unit(self.descriptors[chosen] + rng.normal(size=(points, DIMENSIONS)) * 0.02)
        return Sample(
            noisy.astype(np.float16), tokens.astype(np.float16), places.astype(np.float32), rays.astype(np.float32)
        )


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def scene(images: int = 24, seed: int = 0) -> list[list[Sample]]:
    rng = np.random.default_rng(seed)
    landmarks = Landmarks.random(150, rng)
    return [[landmarks.image(60, 6, rng) for _ in range(2)] for _ in range(images)]


def quick(**changes: float) -> Recipe:
    small = Recipe(minutes=5, steps=160, batch_size=4, points=40, lines=5, anchors=16, check_every=50, threads=1)
    return Recipe(**{**vars(small), **changes})  # type: ignore[arg-type]


def wall() -> RgbdFrame:
    """A textured wall, two metres ahead of a camera that looks along the map's x axis."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    pose = se3.make([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [1, 2, 3])
    texture = np.asarray(cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)
    return RgbdFrame(texture, np.full((240, 320), 2, np.float32), camera_matrix(300, 320, 240), pose)


def test_samples_lie_on_the_surface_also_where_the_image_was_turned() -> None:
    frame = wall()
    assert frame.pose is not None
    for sample in samples_of(frame, RootSift(300), np.random.default_rng(0), warps=3):
        known = np.isfinite(sample.places).all(-1)
        assert known[: len(sample.descriptors)].sum() > 50
        np.testing.assert_allclose(sample.places[known][:, 0], 3, atol=1e-5)
        towards = unit(sample.places[known] - frame.pose[:3, 3])
        np.testing.assert_allclose(sample.rays[known], towards, atol=1e-5)


def test_a_turned_image_shows_the_same_places() -> None:
    """Key points of both images that are the same corner have nearly the same place: most have a neighbour."""
    plain, turned = samples_of(wall(), RootSift(300), np.random.default_rng(1), warps=1)
    first, second = (sample.places[: len(sample.descriptors)] for sample in (plain, turned))
    nearest = np.nanmin(np.linalg.norm(second[:, None] - first[None], axis=-1), axis=1)
    assert np.median(nearest) < 0.01  # 1.5 pixels


def test_places_where_depth_is_missing_are_unknown() -> None:
    frame = wall()
    assert frame.depth is not None and frame.pose is not None
    frame.depth[:, :160] = 0
    (sample,) = samples_of(frame, RootSift(300), np.random.default_rng(0), warps=0)
    known = np.isfinite(sample.places).all(-1)
    pixels = project(se3.apply(se3.inverse(frame.pose), sample.places[known]), frame.camera_matrix)
    assert 0 < known.sum() < len(known) and pixels[:, 0].min() >= 158


def test_a_frame_without_depth_or_pose_is_refused() -> None:
    frame = wall()
    for lacking in (
        RgbdFrame(frame.rgb, None, frame.camera_matrix, frame.pose),
        RgbdFrame(frame.rgb, frame.depth, frame.camera_matrix, None),
    ):
        with pytest.raises(ValueError, match="depth and pose"):
            samples_of(lacking, RootSift(50), np.random.default_rng(0))


def test_a_batch_keeps_places_with_their_descriptors_and_marks_padding() -> None:
    sample = scene(1)[0][0]
    batch = make_batch([sample, sample], 80, 9, np.random.default_rng(0))
    assert batch.point_weight.sum(1).tolist() == [60, 60] and batch.line_weight.sum(1).tolist() == [6, 6]
    assert not batch.known[:, 60:80].any() and not batch.known[:, 80 + 12 :].any()
    rows = {tuple(row.tolist()): place for row, place in zip(sample.descriptors, sample.places, strict=False)}
    for row, place in zip(batch.descriptors[0, :60], batch.places[0, :60], strict=True):
        np.testing.assert_array_equal(rows[tuple(row.tolist())], place)
    for line in range(6):
        token = np.abs(sample.line_tokens.astype(np.float32) - batch.line_tokens[0, line].numpy()).max((1, 2)).argmin()
        ends = sample.places[60 + 2 * token : 62 + 2 * token]
        np.testing.assert_array_equal(batch.places[0, 80 + 2 * line : 82 + 2 * line], ends)


def test_errors_along_the_line_of_sight_count_less() -> None:
    ray = torch.tensor([0.6, 0.0, 0.8])
    across = torch.tensor([0.8, 0.0, -0.6])
    errors = sight_error(torch.stack([2 * across, 2 * ray, torch.zeros(3)]), ray.expand(3, 3))
    torch.testing.assert_close(errors, torch.tensor([2.0, 2 * ALONG_SIGHT, 0.0]), atol=1e-6, rtol=0)


def test_unknown_places_do_not_matter_to_the_loss() -> None:
    trainer = Trainer(scene(3), quick())
    batch = make_batch(scene(3)[0], 40, 5, np.random.default_rng(0))
    batch.known[:, ::2] = False
    other = batch.places.clone()
    other[:, ::2] = 99.0
    changed = Batch(*batch.inputs, other, batch.rays, batch.known)
    assert scene_loss(trainer.average, batch)[1] == scene_loss(trainer.average, changed)[1]


def test_a_short_run_learns_a_small_scene_and_its_bytes_find_it_again() -> None:
    images = scene()
    heard: list[tuple[float, float]] = []
    content = train_scene(images, quick(), lambda done, error: heard.append((done, error)))
    assert len(content) < 4e6
    assert heard[-1][1] < 0.3 * heard[0][1] and heard[-1][0] <= 1
    sample = scene()[5][0]
    found = SceneNetwork.from_bytes(content, threads=1).predict(sample.descriptors.astype(np.float32))
    errors = np.linalg.norm(found.points[:, 0] - sample.places[:60], axis=1)
    assert np.median(errors) < 0.15  # the scene is 4 m wide
    sure = found.reliability[:, 0] > np.median(found.reliability[:, 0])
    assert np.median(errors[sure]) < np.median(errors[~sure])


def test_training_stops_early_when_the_held_out_error_no_longer_falls() -> None:
    trainer = Trainer(scene(4), quick(steps=100_000, check_every=2, learning_rate=1e-9, patience=3))
    trainer.run()
    assert trainer.step < 100


def test_judging_images_are_not_trained_on() -> None:
    images = scene(20)
    trainer = Trainer(images, quick())
    assert len(trainer.judges) == 2 and len(trainer.images) == 18
    assert all(judge is not view for judge in trainer.judges for views in trainer.images for view in views)


def test_a_scene_of_which_nothing_is_known_is_refused() -> None:
    blind = [[Sample(s.descriptors, s.line_tokens, np.full_like(s.places, np.nan), s.rays)] for (s, _) in scene(3)]
    with pytest.raises(ValueError, match="no image shows a place that is known"):
        Trainer(blind, quick(), NetworkSettings(DIMENSIONS))


def test_frames_become_a_network_that_places_their_key_points() -> None:
    frame = wall()
    content = train_on_frames([frame] * 2, "rootsift", quick(steps=40))
    features = RootSift().extract(frame.rgb)
    found = SceneNetwork.from_bytes(content, threads=1).predict(features.descriptors)
    assert np.median(np.abs(found.points[:, 0, 0] - 3)) < 0.1  # the wall is at x = 3
