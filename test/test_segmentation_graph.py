# SPDX-License-Identifier: Apache-2.0
"""The graph of super-points, and what a view adds to it, against slow references and scenes counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from perception_models.geometry.cameras import RgbdFrame, camera_matrix, unproject
from perception_models.segmentation.agreement import agreements, shares
from perception_models.segmentation.contacts import find_rows, near_superpoints, pair_keys, touch
from perception_models.segmentation.evidence import Evidence, look, near_pairs
from perception_models.segmentation.graph import SuperpointGraph
from perception_models.segmentation.prompts import choose_prompts, inner_points, label_image
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.visibility import contradiction, look_back, visible

SETTINGS = SegmentationSettings()


class Masks(NamedTuple):
    logits: np.ndarray
    scores: np.ndarray
    stride: float = 4.0


class WholePanels:
    """A predictor that masks the left or the right half of a 160 x 120 image, whatever of it is asked for."""

    def set_image(self, rgb: np.ndarray, depth: np.ndarray | None = None) -> None:
        self.width = rgb.shape[1]

    def predict_many(self, points: np.ndarray, labels: np.ndarray) -> Masks:
        left = points[:, 0, 0] < self.width / 2
        columns = np.arange(40) < 20
        masks = np.where(columns == left[:, None], 5.0, -5.0)
        return Masks(np.repeat(masks[:, None, None], 30, axis=2), np.full((len(points), 1), 0.9, np.float32))

    def features_at(self, pixels: np.ndarray) -> np.ndarray:
        return pixels.astype(np.float32)


def panels() -> tuple[RgbdFrame, np.ndarray, np.ndarray]:
    """A view of a wall 2 m ahead whose right half is 0.3 m nearer, its points, and a super-point for each quarter."""
    depth = np.full((120, 160), 2.0, np.float32)
    depth[:, 80:] = 1.7
    rgb = np.random.default_rng(0).integers(50, 200, (120, 160, 3), np.uint8)
    frame = RgbdFrame(rgb, depth, camera_matrix(150, 160, 120), np.eye(4))
    points = unproject(depth, frame.camera_matrix)[::2, ::2].reshape(-1, 3)
    row, column = (axis.ravel() for axis in np.mgrid[:60, :80])
    return frame, points, (2 * (column >= 40) + (row >= 30)).astype(np.int32)


def test_superpoints_within_reach_of_each_other_are_found() -> None:
    rng = np.random.default_rng(0)
    points = (rng.permutation(1000)[:60, None] // [100, 10, 1] % 10 * 0.15 + 0.05).astype(np.float32)  # a cell each
    labels = rng.integers(0, 12, 60)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = {(a, b): gaps[np.ix_(labels == a, labels == b)].min() for a in range(12) for b in range(a + 1, 12)}

    pairs, distance = near_superpoints(points, labels, 0.31)

    found = dict(zip(map(tuple, pairs.tolist()), distance.tolist(), strict=True))
    assert found == pytest.approx({pair: gap for pair, gap in expected.items() if gap <= 0.31})
    assert pairs.tolist() == sorted(pairs.tolist())


def test_rows_of_pairs_are_found_whichever_end_comes_first() -> None:
    pairs = np.array([(0, 1), (0, 5), (2, 3)])

    assert find_rows(pairs, pair_keys(np.array([5, 3, 1]), np.array([0, 2, 2]))).tolist() == [1, 2, -1]
    assert find_rows(pairs[:0], pair_keys(np.array([5]), np.array([0]))).tolist() == [-1]


def test_an_edge_is_convex_on_a_box_and_concave_in_a_corner() -> None:
    points = np.array([[0, 0, 0], [0.01, 0, -0.01]], np.float32)
    labels, edges, pairs = np.array([0, 1]), np.array([[0], [1]], np.int32), np.array([(0, 1)])
    box = np.array([[0, 0, 1], [1, 0, 0]], np.float32)
    corner = np.array([[1, 0, 0], [0, 0, 1]], np.float32)

    for normals, convex in ((box, 1), (corner, 0)):
        contact = touch(points, normals, labels, edges, pairs)
        assert (contact.length[0], contact.bend[0], contact.convex[0]) == pytest.approx((1, 1, convex))


def test_a_view_sees_what_its_depth_confirms_and_nothing_behind() -> None:
    frame, points, _ = panels()
    behind, before = points + np.float32([0, 0, 0.5]), points * np.float32(0.5)

    seen = visible(points, frame, SETTINGS)

    assert seen.rows.tolist() == list(range(len(points)))
    np.testing.assert_allclose(seen.pixels[81], [2, 2], atol=1e-3)
    assert len(visible(behind, frame, SETTINGS).rows) == 0 == visible(behind, frame, SETTINGS).passed
    assert not contradiction(visible(behind, frame, SETTINGS), SETTINGS), "what is hidden contradicts nothing"
    assert visible(before, frame, SETTINGS).passed == len(points)
    assert "contradicts the cloud" in contradiction(visible(before, frame, SETTINGS), SETTINGS)


def test_points_get_colour_and_viewpoint_of_the_nearest_view() -> None:
    frame, points, _ = panels()
    far = np.eye(4)
    far[2, 3] = -1.0
    farther = RgbdFrame(np.zeros_like(frame.rgb), np.asarray(frame.depth) + 1, frame.camera_matrix, far)

    viewpoints, colors = look_back(np.append(points, [[9, 9, 9]], 0).astype(np.float32), [farther, frame], SETTINGS)

    assert np.array_equal(colors[:-1], frame.rgb[::2, ::2].reshape(-1, 3))
    assert colors[-1].tolist() == [128, 128, 128]
    assert np.array_equal(viewpoints, np.zeros((len(points) + 1, 3)))


def test_the_label_image_is_dense_and_ends_where_depth_leaps() -> None:
    frame, points, labels = panels()
    sparse = np.arange(0, len(points), 7)

    image = label_image(visible(points[sparse], frame, SETTINGS), labels[sparse], frame, SETTINGS)

    row, column = np.mgrid[:30, :40]
    truth = 2 * (column >= 20) + (row >= 15)
    assert (image >= 0).mean() > 0.95
    assert (image == truth)[image >= 0].mean() > 0.93
    assert ((image >= 2) == (column >= 20))[image >= 0].all()


def test_prompts_lie_deep_inside_their_region() -> None:
    region = np.zeros((20, 30), bool)
    region[3:16, 2:15], region[5, 15:28] = True, True

    found = inner_points(region, 5)

    assert found[0].tolist() == [8, 9]
    assert region[found[:, 1], found[:, 0]].all()
    assert len(np.unique(found, axis=0)) == 5
    assert inner_points(region[:2], 5).shape == (0, 2)
    assert len(inner_points(np.ones((1, 1), bool), 5)) == 1


def test_small_regions_do_not_prompt() -> None:
    image = np.full((30, 40), -1, np.int32)
    image[:10, :10], image[20, 20:23], image[10:14, 30:35] = 4, 7, 2

    prompts = choose_prompts(image, SETTINGS)

    assert prompts.superpoints.tolist() == [4, 2]
    np.testing.assert_allclose(prompts.centres[0], [19.5, 19.5])
    assert (prompts.labels[0] == 1).all()


def test_shares_count_the_pixels_of_each_superpoint_under_each_mask() -> None:
    rng = np.random.default_rng(0)
    image, names = rng.integers(-1, 5, (12, 16)).astype(np.int32), np.array([3, 0, 4])
    logits = rng.normal(size=(2, 3, 24, 32)).astype(np.float32)

    found = shares(Masks(logits, np.ones((2, 3), np.float32), 2.0), image, names, 4)

    held = logits[:, :, 1::2, 1::2] > 0
    for column, name in enumerate(names):
        np.testing.assert_allclose(found[:, :, column], held[:, :, image == name].mean(axis=2), rtol=1e-6)


def test_masks_agree_on_what_they_hold_together_by_how_good_they_are() -> None:
    held = np.float32([[[1, 1, 0]], [[1, 0, 0]], [[0, 0, 1]]])  # three prompts of one mask, three super-points
    sure, unsure = np.float32([[1], [1], [1]]), np.float32([[1], [0.5], [1]])

    assert agreements(held, sure)[0].tolist() == pytest.approx([1, np.sqrt(0.5), 0])
    assert agreements(held, unsure)[0, 1] == pytest.approx(1 / np.sqrt(1.25)), "a bad mask parts them less"
    assert agreements(0 * held, sure).tolist() == np.zeros((3, 3)).tolist(), "what no mask holds agrees with nothing"


def test_near_pairs_equal_loops() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([(a, b) for a in range(6) for b in range(a + 1, 6)])
    points, owner = rng.random((40, 3)).astype(np.float32), np.arange(40) % 6
    expected = []
    for a, b in pairs:
        one, other = points[owner == a], points[owner == b]
        gap = np.maximum(0, np.maximum(one.min(0) - other.max(0), other.min(0) - one.max(0)))
        expected += [[a, b]] if np.linalg.norm(gap) < 0.05 else []

    assert near_pairs(points, owner, 6, 0.05).tolist() == expected


def test_a_view_joins_what_one_mask_covers() -> None:
    frame, points, labels = panels()
    graph = SuperpointGraph(points, np.tile(np.float32([0, 0, -1]), (len(points), 1)), None, labels)

    graph.add(look(frame, points, labels, WholePanels(), SETTINGS))

    affinity = dict(zip(map(tuple, graph.edges.tolist()), graph.affinity.tolist(), strict=True))
    assert affinity[0, 1] > 0.8 and affinity[2, 3] > 0.8
    assert all(affinity[pair] < 0.3 for pair in affinity if pair not in ((0, 1), (2, 3)))
    assert graph.views.tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(graph.features[0], [39, 29], atol=12)


def test_what_did_not_prompt_is_spoken_of_by_the_masks_of_others() -> None:
    frame, points, labels = panels()
    one, all_of_them = (look(frame, points, labels, WholePanels(), replace(SETTINGS, max_prompts=n)) for n in (1, 4))

    assert one.superpoints.tolist() == all_of_them.superpoints.tolist()
    seen = {tuple(sorted(pair)): value for pair, value in zip(one.pairs.tolist(), one.agreement.tolist(), strict=True)}
    asked = set((0, 1) if one.superpoints[0] < 2 else (2, 3))
    assert {pair for pair, value in seen.items() if value > 0.8} == {tuple(sorted(asked))}


def test_views_are_weighed_and_pairs_that_are_no_edges_left_out() -> None:
    points = np.array([[0, 0, 0], [0.1, 0, 0], [5, 0, 0]], np.float32)
    up = np.tile(np.float32([0, 0, 1]), (3, 1))
    graph = SuperpointGraph(points, up, None, np.arange(3))
    everything, pairs = np.arange(3), np.array([(1, 0), (1, 2)])
    for agreement, weight, feature in ((1.0, 0.3, 2.0), (0.2, 0.1, 4.0)):
        one = np.full(2, agreement, np.float32), np.full(2, weight, np.float32)
        graph.add(Evidence(everything, np.full((3, 1), feature, np.float32), pairs, *one))

    assert graph.edges.tolist() == [[0, 1]]
    assert graph.agreement[0] == pytest.approx(0.8)
    assert graph.weight[0] == pytest.approx(0.4)
    np.testing.assert_allclose(graph.features, 3.0)
