# SPDX-License-Identifier: Apache-2.0
"""GeoTransformer at full size: names and shapes of its checkpoints, blocks against loops, inputs, padding."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.onnx_export import Tensors  # noqa: E402
from perception_models.registration.geotransformer import GeoTransformer  # noqa: E402
from perception_models.registration.geotransformer_attention import Attention, Sinusoid  # noqa: E402
from perception_models.registration.geotransformer_input import pair_tensors, stages_of  # noqa: E402
from perception_models.registration.geotransformer_matcher import OfficialMatcher, pad  # noqa: E402
from perception_models.registration.geotransformer_settings import PUBLISHED, GeoTransformerSettings  # noqa: E402
from perception_models.registration.kpconv import GroupNorm, KPConv, Neighbourhood  # noqa: E402
from perception_models.registration.official_export import (  # noqa: E402
    example_stages,
    example_tensors,
    export_geotransformer,
)

torch.set_num_threads(1)
FACTS = Path(__file__).parent / "keys"
LISTINGS = Path(os.environ.get("PERCEPTION_KEYS", Path(__file__).parents[2] / "shared" / "keys"))
SMALL = replace(
    PUBLISHED["geotransformer_3dmatch"], stages=3, neighbours=(8, 8, 8), hidden=16, width=16, channels=16, groups=4,
    patch_pairs=8, patch_points=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> GeoTransformer:
    torch.manual_seed(0)
    return GeoTransformer(SMALL).eval()


def read_shapes(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def run(network: GeoTransformer, tensors: Tensors) -> list[np.ndarray]:
    with torch.inference_mode():
        return [output.numpy() for output in network(*(torch.from_numpy(tensors[name]) for name in network.inputs))]


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_equal_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        state = GeoTransformer(PUBLISHED[name]).state_dict()
    assert {key: str(tuple(value.shape)) for key, value in state.items()} == read_shapes(FACTS / f"{name}.txt")


@pytest.mark.parametrize("name", PUBLISHED)
def test_committed_shapes_equal_the_listings(name: str) -> None:
    if not LISTINGS.is_dir():
        pytest.skip(f"no key listings at {LISTINGS}; set PERCEPTION_KEYS")
    assert read_shapes(FACTS / f"{name}.txt") == read_shapes(LISTINGS / f"{name}.keys.txt")


def test_convolution_equals_a_loop_over_neighbours_and_kernel_points() -> None:
    torch.manual_seed(1)
    convolution = KPConv(3, 4, radius=1.0, sigma=0.8)
    points = torch.cat([torch.zeros(1, 3), torch.rand(5, 3)])
    features = torch.cat([torch.zeros(1, 3), torch.rand(5, 3)])
    neighbours = torch.tensor([[0, 0, 0], [1, 2, 0], [3, 4, 5]])
    expected = convolution.bias.repeat(3, 1).clone()
    for query in (1, 2):
        there = [row for row in neighbours[query].tolist() if row]
        for row in there:
            distance = (points[row] - points[query] - convolution.kernel_points).norm(dim=1)
            for near, weight in zip((1 - distance / 0.8).clamp(min=0), convolution.weights, strict=True):
                expected[query] = expected[query] + near * (features[row] @ weight) / len(there)
    at = Neighbourhood(points[:3], points, neighbours, torch.tensor([[0.0], [1], [1]]))
    torch.testing.assert_close(convolution(features, at), expected, atol=1e-4, rtol=1e-4)


def test_group_norm_is_torchs_over_the_rows_that_are_points() -> None:
    torch.manual_seed(2)
    norm, x = GroupNorm(2, 8), torch.randn(7, 8)
    mask = torch.tensor([0.0, 1, 1, 1, 1, 0, 0])[:, None]
    normal = norm(x, mask)
    torch.testing.assert_close(normal[1:5], norm.norm(x[1:5].T[None])[0].T, atol=1e-5, rtol=1e-5)
    assert not normal[[0, 5, 6]].any()


def test_self_attention_equals_a_loop_over_heads_and_super_points() -> None:
    torch.manual_seed(3)
    attention, x, places = Attention(8, 2, relative=True), torch.randn(3, 8), torch.randn(3, 3, 8)
    q, k, v = attention.proj_q(x), attention.proj_k(x), attention.proj_v(x)
    p = attention.proj_p(places)
    expected = torch.zeros(3, 8)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        for i in range(3):
            weights = torch.softmax(((k[:, part] + p[i, :, part]) @ q[i, part]) / 2, dim=0)
            expected[i, part] = weights @ v[:, part]
    torch.testing.assert_close(attention(x, x, torch.ones(3), places), expected, atol=1e-5, rtol=1e-5)


def test_sinusoids_take_turns() -> None:
    expected = torch.tensor([[np.sin(2.0), np.cos(2.0), np.sin(0.02), np.cos(0.02)]], dtype=torch.float32)
    torch.testing.assert_close(Sinusoid(4)(torch.tensor([2.0])), expected)


def test_neighbours_pooling_and_upsampling_equal_brute_force() -> None:
    cloud = example_stages(SMALL, 0, cells=3)
    for stage, points in enumerate(cloud.points[:-1]):
        coarse, radius = cloud.points[stage + 1], SMALL.radius * 2**stage
        to_own, to_coarse = (np.linalg.norm(a[:, None] - points, axis=-1) for a in (points, coarse))
        for distance, rows in ((to_own, cloud.neighbours[stage]), (to_coarse, cloud.pooling[stage])):
            counts = np.minimum((distance <= radius).sum(1), SMALL.neighbours[stage])
            np.testing.assert_array_equal((rows >= 0).sum(1), counts)
            np.testing.assert_allclose(distance[np.arange(len(rows)), rows[:, 0]], distance.min(1), atol=1e-6)
        upsampled = to_coarse.T[np.arange(len(points)), cloud.upsampling[stage]]
        np.testing.assert_allclose(upsampled, to_coarse.min(0), atol=1e-6)


def test_both_clouds_follow_row_0_and_hear_of_each_other_only_through_attention() -> None:
    target, source = example_stages(SMALL, 0, cells=3), example_stages(SMALL, 1, cells=3)
    tensors = pair_tensors(target, source)
    for stage, points in enumerate(target.points):
        rows = tensors[f"neighbours_{stage}"]
        assert not rows[0].any() and rows[1 : len(points) + 1].max() <= len(points)
        of_source = rows[len(points) + 1 :]
        assert of_source[of_source > 0].min() > len(points)
        np.testing.assert_array_equal(tensors[f"points_{stage}"][1 + len(points) :], source.points[stage])


def test_angles_are_those_to_the_nearest_super_points() -> None:
    target = example_stages(SMALL, 0, cells=3)
    angles = pair_tensors(target, target)["target_angles"]
    points = target.points[-1].astype(np.float64)
    nearest = np.argsort(np.linalg.norm(points - points[4], axis=1))[1:4]
    a, b = points[nearest[2]] - points[4], points[7] - points[4]
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert angles[4, 7, 2] == pytest.approx(np.arccos(np.clip(cosine, -1, 1)), abs=1e-3)
    assert not angles[4, 4].any()


def test_too_many_too_few_and_misshapen_points_are_explained() -> None:
    with pytest.raises(ValueError, match="fewer than 4: too small to match"):
        stages_of(np.zeros((10, 3), np.float32), SMALL)
    with pytest.raises(ValueError, match="more than 30000; crop it"):
        stages_of(np.random.default_rng(0).uniform(0, 5, (40000, 3)).astype(np.float32), SMALL)
    with pytest.raises(ValueError, match="points must be an array"):
        stages_of(np.zeros((10, 4), np.float32), SMALL)


def test_a_weights_folder_matches_as_torch_does_with_and_without_padding(
    network: GeoTransformer, tmp_path: Path
) -> None:
    matcher = OfficialMatcher.load(export_geotransformer(network, "small", tmp_path), "onnxruntime", threads=1)
    assert matcher.settings == replace(SMALL, dustbin=1.0)
    tensors = example_tensors(SMALL)
    exact = run(network, tensors)
    facts = matcher.engine.facts
    capacity = {name: max(value.shape[0] for value in tensors.values()) + 9 for name in facts.capacity}
    padded = run(network, pad({name: tensors[name] for name in facts.inputs}, replace(facts, capacity=capacity)))
    for one, other in zip(exact, padded, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other[: len(one)], atol=1e-4)
    with pytest.raises(ValueError, match="crop the clouds"):
        pad({name: tensors[name] for name in facts.inputs}, replace(facts, capacity=dict.fromkeys(facts.capacity, 5)))
    matcher.close()


def test_matches_are_points_of_both_clouds_with_confidences(network: GeoTransformer, tmp_path: Path) -> None:
    matcher = OfficialMatcher.load(export_geotransformer(network, "small", tmp_path), "onnxruntime", threads=1)
    cloud = example_stages(SMALL, 0, cells=3)
    points = cloud.points[0]
    pairs, weights = matcher.match(points, points)
    assert pairs.shape == (len(weights), 2, 3) and ((weights >= 0) & (weights <= 1)).all()
    found = matcher.match_stages(cloud, cloud)
    assert found.source.max(initial=0) < len(cloud.points[SMALL.fine_stage])
    matcher.close()


def test_settings_return_from_plain_values() -> None:
    assert GeoTransformerSettings.from_dict(SMALL.to_dict()) == SMALL
