# SPDX-License-Identifier: Apache-2.0
"""The compact promptable network behind MaskPredictor: a small untrained one, exported, and what must hold for any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception_models.runtime import BadWeights
from perception_models.segmentation.automatic import distinct, stability
from perception_models.segmentation.compact_input import depth_channels, prepare
from perception_models.segmentation.compact_settings import CompactSettings
from perception_models.segmentation.predictor import MaskPredictor

SETTINGS = CompactSettings(width=96, height=64, channels=32, coarse=48, blocks=1, heads=3, fine=8, points=4)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> MaskPredictor:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from perception_models.real_encoder import real_encoder
    from perception_models.segmentation.export import export
    from perception_models.segmentation.network import CompactNetwork

    torch.manual_seed(0)
    folder = export(CompactNetwork(SETTINGS, real_encoder()), tmp_path_factory.mktemp("compact"))
    loaded = MaskPredictor.load(str(folder), threads=1)
    loaded.set_image(image())
    return loaded


def image(height: int = 120, width: int = 160) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return coarse.repeat(height // 6, 0).repeat(width // 8, 1)


def test_a_click_gives_three_masks_of_the_images_size(predictor: MaskPredictor) -> None:
    found = predictor.predict(points=np.array([[30.0, 40.0]]))
    assert found.masks.shape == (3, 120, 160) and found.masks.dtype == bool
    assert found.scores.shape == (3,) and np.isfinite(found.logits).all()
    np.testing.assert_array_equal(found.best, found.masks[found.scores.argmax()])
    assert predictor.predict(points=np.array([[30.0, 40.0]]), multimask=False).masks.shape == (1, 120, 160)


def test_one_prompt_at_a_time_and_many_at_once_are_the_same(predictor: MaskPredictor) -> None:
    points = np.random.default_rng(1).uniform(0, 119, (70, 2, 2)).astype(np.float32)
    labels = np.tile([1, 0], (70, 1))
    many = predictor.predict_many(points, labels)
    rows, columns = many.logits.shape[2:]
    assert (rows, columns) == (32, 42) and many.stride == pytest.approx(2 * 160 / 85)  # the input is wider
    for row in (0, 63, 64, 69):
        alone = predictor.predict(points=points[row], labels=labels[row])
        np.testing.assert_allclose(alone.logits[:, :rows, :columns], many.logits[row], atol=1e-4)
        np.testing.assert_allclose(alone.scores, many.scores[row], atol=1e-5)


def test_places_without_a_point_do_not_change_the_answer(predictor: MaskPredictor) -> None:
    point, label = np.array([[[50.0, 60.0]]]), np.array([[1]])
    padded = np.concatenate([point, [[[9.0, 9.0]]]], 1), np.array([[1, -1]])
    one, other = predictor.predict_many(point, label), predictor.predict_many(*padded)
    np.testing.assert_array_equal(one.logits, other.logits)


def test_points_labels_boxes_and_earlier_masks_all_matter(predictor: MaskPredictor) -> None:
    point = np.array([[50.0, 60.0]])
    first = predictor.predict(points=point)
    others = (
        predictor.predict(points=point, labels=np.array([0])),
        predictor.predict(points=point + 20),
        predictor.predict(points=point, box=np.array([20.0, 20, 90, 90])),
        predictor.predict(points=point, mask=first.logits[0]),
    )
    assert all(np.abs(first.logits - other.logits).max() > 1e-4 for other in others)


def test_depth_is_seen_where_it_is_given(predictor: MaskPredictor) -> None:
    point = np.array([[50.0, 60.0]])
    flat = predictor.predict(points=point).logits
    predictor.set_image(image(), np.tile(np.linspace(1, 3, 160, dtype=np.float32), (120, 1)))
    deep = predictor.predict(points=point).logits
    predictor.set_image(image())
    assert np.abs(deep - flat).max() > 1e-4


def test_features_between_cells_are_bilinear(predictor: MaskPredictor) -> None:
    values = predictor._known().values[0]
    factor = np.array([85 / 160, 64 / 120])  # the image's height fills the input's
    cells = np.array([[2.0, 3.0], [3.0, 3.0], [2.5, 3.0]])
    pixels = (cells + 0.5) * 8 / factor - 0.5
    first, second, between = predictor.features_at(pixels)
    np.testing.assert_allclose(first, values[:, 3, 2], atol=1e-4)
    np.testing.assert_allclose(second, values[:, 3, 3], atol=1e-4)
    np.testing.assert_allclose(between, (first + second) / 2, atol=1e-4)


def test_everything_gives_distinct_masks_best_first(predictor: MaskPredictor) -> None:
    found = predictor.everything(per_side=4, min_score=-10, min_stability=0.0, overlap=0.5)
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    for index, (mask, _) in enumerate(found):
        assert mask.shape == (120, 160)
        for other, _ in found[:index]:
            assert (mask & other).sum() <= 0.6 * (mask | other).sum()


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ({}, "at least one point or a box"),
        ({"points": np.array([[np.nan, 1.0]])}, "finite"),
        ({"points": np.zeros((2, 3))}, r"points are \(K, 2\)"),
        ({"points": np.zeros((1, 2)), "labels": np.array([3])}, "labels are 1"),
        ({"box": np.array([9.0, 0, 3, 5])}, "x0 < x1"),
        ({"points": np.zeros((5, 2))}, "takes 4"),
    ],
)
def test_bad_prompts_are_explained(predictor: MaskPredictor, prompt: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        predictor.predict(**prompt)


def test_bad_images_are_explained_and_the_last_one_stays(predictor: MaskPredictor) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        predictor.set_image(np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match="register depth"):
        predictor.set_image(image(), np.ones((60, 80), np.float32))
    assert predictor.predict(points=np.array([[5.0, 5.0]])).masks.shape == (3, 120, 160)


def test_without_an_image_there_is_no_answer(predictor: MaskPredictor) -> None:
    with pytest.raises(RuntimeError, match="call set_image first"):
        MaskPredictor(predictor.backend).predict(points=np.array([[5.0, 5.0]]))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="decoder"):
        MaskPredictor.load(str(tmp_path))


def test_an_image_keeps_its_proportions_in_the_upper_left_of_the_input() -> None:
    frame = prepare(image(120, 80), np.full((120, 80), 2.0, np.float32), SETTINGS)
    assert frame.filled == (43, 64)
    np.testing.assert_allclose(frame.to_input(np.array([[79.5, 119.5]])), [[42.5, 63.5]], atol=1e-5)
    assert (frame.depth[0, 1, :, :43] == 1).all() and (frame.depth[0, 1, :, 43:] == 0).all()
    assert frame.rgb[0, :, :, 44:].std(axis=(1, 2)).max() < 1e-6  # neutral beyond the image


def test_depth_has_no_scale_and_says_where_it_is_unknown() -> None:
    depth = np.array([[1.0, 2.0, 4.0, 0.0, np.nan]], np.float32)
    one, other = depth_channels(depth, depth.shape), depth_channels(10 * depth, depth.shape)
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(one[0, 0], [-np.log(2), 0, np.log(2), 0, 0], atol=1e-6)
    assert one[1, 0].tolist() == [1, 1, 1, 0, 0]


def test_stability_and_doubles_by_hand() -> None:
    logits = np.full((2, 4, 4), -5, np.float32)
    logits[0, :2], logits[1, 0], logits[1, 1] = 5, 5, 0.5
    np.testing.assert_allclose(stability(logits), [1.0, 0.5])
    masks = np.zeros((3, 1, 10), bool)
    masks[0, 0, :6], masks[1, 0, 1:6], masks[2, 0, 7:] = True, True, True
    assert distinct(masks, np.array([0.5, 0.9, 0.1], np.float32), 0.7).tolist() == [1, 2]
