# SPDX-License-Identifier: Apache-2.0
"""SuperPoint's layout with random weights: a heat map at full resolution, features from an imported folder."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.relocalization.checkpoints import import_weights  # noqa: E402
from perception_models.relocalization.superpoint import SuperPointFeatures  # noqa: E402
from perception_models.relocalization.superpoint_network import SuperPoint  # noqa: E402

torch.set_num_threads(1)


def network() -> SuperPoint:
    torch.manual_seed(0)
    return SuperPoint().eval()


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> SuperPointFeatures:
    folder = tmp_path_factory.mktemp("superpoint")
    torch.save(network().state_dict(), folder / "superpoint_v1.pth")
    return SuperPointFeatures.load(import_weights(folder / "superpoint_v1.pth", folder), count=300, threads=1)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_each_channel_of_the_detector_is_one_pixel_of_its_cell() -> None:
    detector = network()
    with torch.no_grad():
        detector.convPb.weight.zero_()
        detector.convPb.bias.zero_()
        detector.convPb.bias[8 * 3 + 5] = 10.0  # row 3, column 5
        heat, _ = detector(torch.rand(1, 1, 32, 40))
    rows, columns = np.nonzero(heat[0, 0].numpy() > 0.5)
    assert len(rows) == 4 * 5 and set(rows % 8) == {3} and set(columns % 8) == {5}


def test_a_cell_of_descriptors_is_eight_pixels() -> None:
    with torch.no_grad():
        heat, descriptors = network()(torch.rand(1, 1, 48, 64))
    assert heat.shape == (1, 1, 48, 64) and descriptors.shape == (1, 256, 6, 8)


def test_features_come_best_first_inside_the_image_at_any_size(features: SuperPointFeatures) -> None:
    for height, width in ((120, 160), (77, 90)):
        found = features.extract(noise(height, width))
        assert 0 < len(found) <= 300 and found.descriptors.shape == (len(found), 256)
        assert (np.diff(found.scores) <= 0).all()
        assert (found.points >= 4).all() and (found.points < [width - 4, height - 4]).all()
        np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)


def test_no_two_features_are_within_three_pixels(features: SuperPointFeatures) -> None:
    points = features.extract(noise(96, 128)).points
    apart = np.abs(points[:, None] - points[None]).max(-1) + 10 * np.eye(len(points))
    assert apart.min() > 3


def test_descriptors_are_sampled_at_the_centres_of_cells(features: SuperPointFeatures) -> None:
    dense = features.extract(noise(96, 128)).dense
    np.testing.assert_allclose(
        dense.sample(np.array([[8 * 5 + 3.5, 8 * 2 + 3.5]], np.float32))[0],
        dense.values[:, 2, 5],  # type: ignore[attr-defined]
        atol=1e-5,
    )


def test_what_is_no_image_is_refused(features: SuperPointFeatures) -> None:
    with pytest.raises(ValueError, match="image"):
        features.extract(np.zeros((40, 40), np.uint8))
