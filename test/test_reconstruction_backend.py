# SPDX-License-Identifier: Apache-2.0
"""The engines behind the reconstructor: a state that is a value, queries without a trace, the gate, both heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from cut3r_support import KINDS, images, tiny_network  # noqa: E402

from perception_models.geometry import se3  # noqa: E402
from perception_models.geometry.cameras import rays  # noqa: E402
from perception_models.reconstruction import OnlineSettings, Reconstructor  # noqa: E402
from perception_models.reconstruction.backend import EngineNetwork, State, ray_map  # noqa: E402
from perception_models.reconstruction.export import export  # noqa: E402
from perception_models.reconstruction.input import CanonicalCamera  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["compact", "linear"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_network(KINDS[request.param]), tmp_path_factory.mktemp(request.param), frames=2)


@pytest.fixture(scope="module")
def network(folder: Path) -> EngineNetwork:
    return EngineNetwork.load(folder, "onnxruntime", threads=1)


def tensor(number: int) -> np.ndarray:
    return images(number + 1)[number : number + 1].numpy()


def same(one: object, other: object) -> bool:
    return all(np.array_equal(part, vars(other)[name]) for name, part in vars(one).items())


def test_an_answer_has_the_shapes_that_it_promises(network) -> None:
    answer, state = network.step(network.encode(tensor(0)), network.start(), gated=False)
    height, width = network.camera.height, network.camera.width

    assert answer.points.shape == answer.points_self.shape == answer.rgb.shape == (height, width, 3)
    assert answer.confidence.shape == answer.confidence_self.shape == (height, width)
    assert answer.confidence.min() >= 1 and answer.is_finite and not state.fresh
    np.testing.assert_allclose(answer.pose[:3, :3] @ answer.pose[:3, :3].T, np.eye(3), atol=1e-6)


def test_a_fresh_state_knows_nothing_whatever_it_holds(network) -> None:
    start, tokens = network.start(), network.encode(tensor(0))
    noise = np.random.default_rng(0)
    junk = State(*(noise.normal(size=a.shape).astype(np.float32) for a in (start.tokens, start.memory)), fresh=True)

    assert same(network.step(tokens, start, False)[0], network.step(tokens, junk, False)[0])


def test_what_was_seen_changes_what_is_seen_next_and_the_state_stays_a_value(network) -> None:
    _, state = network.step(network.encode(tensor(0)), network.start(), gated=False)
    kept = State(state.tokens.copy(), state.memory.copy())
    second = network.encode(tensor(1))
    alone, _ = network.step(second, network.start(), gated=False)
    after, later = network.step(second, state, gated=False)
    again, _ = network.step(second, state, gated=False)

    assert same(after, again) and same(state, kept)
    assert not np.array_equal(alone.points, after.points) and not np.array_equal(later.tokens, state.tokens)


def test_a_query_by_rays_depends_on_the_rays_and_on_the_state(network) -> None:
    states = [network.step(network.encode(tensor(k)), network.start(), gated=False)[1] for k in (0, 1)]
    here, there = (
        network.encode_rays(ray_map(pose, network.camera.matrix, network.camera))
        for pose in (np.eye(4), se3.from_yaw_pitch_roll(0.1, 0.5, 0, [0.3, 0, 0]))
    )
    first, _ = network.step(here, states[0], gated=False)

    assert first.is_finite
    assert not np.array_equal(first.points, network.step(there, states[0], gated=False)[0].points)
    assert not np.array_equal(first.points, network.step(here, states[1], gated=False)[0].points)


def test_the_gate_changes_the_state_after_the_first_image_and_not_at_it(network) -> None:
    first, second = network.encode(tensor(0)), network.encode(tensor(1))
    (_, plain), (_, gated) = (network.step(first, network.start(), gate) for gate in (False, True))
    assert same(plain, gated)
    (_, plain), (_, gated) = (network.step(second, plain, gate) for gate in (False, True))
    assert not np.array_equal(plain.tokens, gated.tokens) and np.array_equal(plain.memory, gated.memory)


def test_rays_are_those_of_the_pixels_in_the_first_cameras_frame() -> None:
    camera = CanonicalCamera(32, 16, 20.0)
    pose = se3.from_yaw_pitch_roll(0.3, -0.2, 0.5, [1, 2, 3])
    given = ray_map(pose, camera.matrix, camera)

    assert given.shape == (1, 6, 16, 32) and given.dtype == np.float32
    np.testing.assert_allclose(given[0, :3, 4, 5], [1, 2, 3])
    point = se3.apply(pose, 7 * rays(camera.matrix, 32, 16)[4, 5].astype(np.float64))
    np.testing.assert_allclose(given[0, 3:, 4, 5], (point - [1, 2, 3]) / np.linalg.norm(point - [1, 2, 3]), atol=1e-6)


def test_a_reconstructor_of_any_engine_never_says_what_is_no_number(folder) -> None:
    with_all = OnlineSettings(poses="network", gated=True, reset_every=2)
    reconstructor = Reconstructor(EngineNetwork.load(folder, "onnxruntime", threads=1), with_all)
    rng = np.random.default_rng(0)
    for _ in range(6):
        view = reconstructor.update(rng.integers(0, 255, (64, 96, 3)).astype(np.uint8))
        assert view.reason if not view.valid else np.isfinite(view.points).all() and np.isfinite(view.pose).all()
    assert reconstructor.engine_info.backend == "onnxruntime"
    reconstructor.close()
