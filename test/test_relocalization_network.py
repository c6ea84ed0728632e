# SPDX-License-Identifier: Apache-2.0
"""The network of a scene: what its nodes hear, where it places them, and the same at run time without torch."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.onnx_export import Tensors  # noqa: E402
from perception_models.relocalization.anchors import spread_anchors  # noqa: E402
from perception_models.relocalization.export import pack_network, random_input  # noqa: E402
from perception_models.relocalization.network import (  # noqa: E402
    CHOICES,
    INPUTS,
    NetworkSettings,
    SceneNet,
)
from perception_models.relocalization.scene_network import SceneCoordinates, SceneNetwork  # noqa: E402
from perception_models.runtime import BadWeights  # noqa: E402

torch.set_num_threads(1)
DIMENSIONS = 16


def network(anchors: int = 20) -> SceneNet:
    torch.manual_seed(0)
    net = SceneNet(torch.randn(anchors, 3), NetworkSettings(DIMENSIONS, width=32, hidden=64)).eval()
    with torch.no_grad():
        net.head.scores.weight *= 30  # as decided as a trained one
    return net


def run(net: SceneNet, inputs: Tensors) -> list[np.ndarray]:
    with torch.no_grad():
        return [output.numpy() for output in net(*(torch.from_numpy(inputs[name]) for name in INPUTS))]


@pytest.fixture(scope="module")
def packed() -> bytes:
    return pack_network(network(), {"held_out_error": 0.02})


def test_every_node_gets_places_in_order_of_reliability() -> None:
    points, reliability, lines, line_reliability = run(network(), random_input(DIMENSIONS, 30, 7))
    assert points.shape == (30, CHOICES, 3) and lines.shape == (7, 2, CHOICES, 3)
    assert reliability.shape == (30, CHOICES) and line_reliability.shape == (7, 2, CHOICES)
    assert (reliability >= 0).all() and (reliability < 1).all()
    assert np.isfinite(points).all() and np.isfinite(lines).all()


def test_without_offsets_places_are_anchors() -> None:
    net = network()
    with torch.no_grad():
        net.head.offset[-1].weight.zero_()
        net.head.offset[-1].bias.zero_()
    points = run(net, random_input(DIMENSIONS))[0].reshape(-1, 3)
    distance = np.linalg.norm(points[:, None] - net.head.anchors.numpy(), axis=-1).min(1)
    np.testing.assert_allclose(distance, 0, atol=1e-6)


def test_nodes_are_heard_without_regard_to_their_order() -> None:
    inputs = random_input(DIMENSIONS, 30, 7)
    order = np.random.default_rng(1).permutation(30)
    shuffled = inputs | {"descriptors": inputs["descriptors"][order]}
    np.testing.assert_allclose(run(network(), inputs)[0][order], run(network(), shuffled)[0], atol=1e-5)


def test_the_ends_of_a_line_trade_places_with_its_samples() -> None:
    inputs = random_input(DIMENSIONS, 30, 7)
    turned = inputs | {"line_tokens": inputs["line_tokens"][:, ::-1].copy()}
    np.testing.assert_allclose(run(network(), inputs)[2][:, ::-1], run(network(), turned)[2], atol=1e-5)


def test_points_hear_the_lines_of_their_image() -> None:
    few, other = random_input(DIMENSIONS, 30, 7), random_input(DIMENSIONS, 30, 7, seed=1)
    changed = few | {"line_tokens": other["line_tokens"]}
    assert np.abs(run(network(), few)[0] - run(network(), changed)[0]).max() > 1e-4


def test_padding_is_not_heard() -> None:
    inputs, other = random_input(DIMENSIONS, 30, 7), random_input(DIMENSIONS, 40, 9, seed=1)
    padded = {name: np.concatenate([inputs[name], other[name][len(inputs[name]) :]]) for name in INPUTS}
    padded["point_weight"][30:] = padded["line_weight"][7:] = 0
    for alone, among in zip(run(network(), inputs), run(network(), padded), strict=True):
        np.testing.assert_allclose(alone, among[: len(alone)], atol=1e-5)


def test_run_time_equals_torch_within_the_rounding_of_the_weights(packed: bytes) -> None:
    inputs = random_input(DIMENSIONS, 30, 7, seed=3)
    expected = run(network(), inputs)
    found = SceneNetwork.from_bytes(packed, threads=1).predict(inputs["descriptors"], inputs["line_tokens"])
    np.testing.assert_allclose(found.reliability, expected[1], atol=2e-2)
    clear = np.abs(expected[1][:, 0] - expected[1][:, 1]) > 0.05  # else the order of choices may change
    assert clear.sum() > 5
    np.testing.assert_allclose(found.points[clear, 0], expected[0][clear, 0], atol=5e-3)
    assert found.lines.shape == (7, 2, CHOICES, 3)


def test_stored_weights_are_within_half_a_step_and_anchors_are_exact() -> None:
    net = network(anchors=400)
    with zipfile.ZipFile(io.BytesIO(pack_network(net, {}))) as archive:
        graph = onnx.load_from_string(archive.read("model.onnx")).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    step = stored["head.trunk.3.weight_step"][:, None]
    weight = net.head.trunk[3].weight.detach().numpy()
    assert (np.abs(stored["head.trunk.3.weight_bytes"] * step - weight) <= 0.501 * step).all()
    np.testing.assert_array_equal(stored["head.anchors"], net.head.anchors.numpy())


@pytest.mark.parametrize(("points", "lines"), [(0, 0), (12, 0), (0, 3), (1, 1)])
def test_an_image_may_lack_points_or_lines(packed: bytes, points: int, lines: int) -> None:
    inputs = random_input(DIMENSIONS, points, lines)
    found = SceneNetwork.from_bytes(packed, threads=1).predict(inputs["descriptors"], inputs["line_tokens"])
    assert len(found.points) == points and len(found.lines) == lines
    assert np.isfinite(found.points).all() and np.isfinite(found.lines).all()


def test_wrong_descriptors_and_too_many_of_them_are_refused(packed: bytes) -> None:
    scene = SceneNetwork.from_bytes(packed, threads=1)
    with pytest.raises(ValueError, match=r"this map's have \(N, 16\)"):
        scene.predict(np.zeros((5, 64), np.float32))
    with pytest.raises(ValueError, match="capacity is 1024"):
        scene.predict(np.zeros((1025, DIMENSIONS), np.float32))


def test_damaged_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(BadWeights, match="damaged"):
        SceneNetwork.from_bytes(packed[: len(packed) // 2])
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("../model.onnx", b"")
    with pytest.raises(BadWeights, match="expected are"):
        SceneNetwork.from_bytes(other.getvalue())


def test_run_time_does_not_load_torch() -> None:
    program = "import sys, perception_models.relocalization.scene_network; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def test_best_points_are_taken_over_all_choices() -> None:
    points = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    reliability = np.array([[0.9, 0.4], [0.3, 0.2], [0.5, 0.45]], np.float32)
    none = np.empty((0, 2, 2, 3), np.float32), np.empty((0, 2, 2), np.float32)
    which, places = SceneCoordinates(points, reliability, *none).best_points(3)
    assert which.tolist() == [0, 2, 2]
    np.testing.assert_array_equal(places, [points[0, 0], points[2, 0], points[2, 1]])


def test_a_line_is_as_reliable_as_its_worse_end() -> None:
    lines = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    reliability = np.array([[[0.9, 0.1], [0.2, 0.1]], [[0.5, 0.1], [0.4, 0.1]]], np.float32)
    none = np.empty((0, 2, 3), np.float32), np.empty((0, 2), np.float32)
    which, ends = SceneCoordinates(*none, lines, reliability).best_lines(1)
    assert which.tolist() == [1]
    np.testing.assert_array_equal(ends, lines[[1], :, 0])


def test_anchors_are_near_every_point_of_a_scene() -> None:
    points = np.random.default_rng(0).random((4000, 3)).astype(np.float32)
    anchors = spread_anchors(points, 100)
    assert anchors.shape == (100, 3) and np.isfinite(anchors).all()
    distance = np.linalg.norm(points[:, None] - anchors, axis=-1).min(1)
    assert distance.max() < 0.35 and distance.mean() < 0.15


def test_a_small_scene_has_few_anchors_and_an_empty_one_none() -> None:
    assert len(spread_anchors(np.random.default_rng(0).random((20, 3)).astype(np.float32), 512)) == 2
    with pytest.raises(ValueError, match="no point of the scene is known"):
        spread_anchors(np.empty((0, 3), np.float32), 512)
