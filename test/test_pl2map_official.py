# SPDX-License-Identifier: Apache-2.0
"""PL2Map at full size: names and shapes of the published checkpoints, what it computes, ONNX against torch, import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.onnx_export import Tensors  # noqa: E402
from perception_models.relocalization.checkpoints import (  # noqa: E402
    LAYOUTS,
    import_checkpoint,
    import_weights,
    recognise,
)
from perception_models.relocalization.pl2map import (  # noqa: E402
    INPUTS,
    MASKED,
    OUTPUTS,
    GraphAttention,
    LineEncoder,
    Pl2Map,
    reliability,
)
from perception_models.relocalization.pl2map_export import export_pl2map, random_descriptors  # noqa: E402
from perception_models.runtime import BadWeights, load_engine  # noqa: E402

torch.set_num_threads(1)
FACTS = Path(__file__).parent / "keys"
LISTINGS = Path(os.environ.get("PERCEPTION_KEYS", Path(__file__).parents[2] / "shared" / "keys"))
LISTED = {"pl2map": "pl2map", "superpoint": "superpoint_v1"}


@pytest.fixture(scope="module")
def network() -> Pl2Map:
    torch.manual_seed(0)
    return Pl2Map().eval()


def read_shapes(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def run(network: Pl2Map, inputs: Tensors) -> list[np.ndarray]:
    with torch.no_grad():
        return [output.numpy() for output in network(*(torch.from_numpy(inputs[name]) for name in INPUTS))]


def saved(folder: Path, content: Any) -> Path:
    file = folder / "checkpoint.pth.tar"
    torch.save(content, file)
    return file


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_and_shapes_equal_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        built = {key: str(tuple(value.shape)) for key, value in LAYOUTS[name].build().state_dict().items()}
    assert built == read_shapes(FACTS / f"{LISTED[name]}.txt")


@pytest.mark.parametrize("name", LAYOUTS)
def test_committed_shapes_equal_the_listings(name: str) -> None:
    if not LISTINGS.is_dir():
        pytest.skip(f"no key listings at {LISTINGS}; set PERCEPTION_KEYS")
    assert read_shapes(FACTS / f"{LISTED[name]}.txt") == read_shapes(LISTINGS / f"{LISTED[name]}.keys.txt")


def test_graph_attention_equals_a_loop_over_heads_and_nodes() -> None:
    torch.manual_seed(1)
    attention = GraphAttention(8, 2)
    x, source = torch.randn(1, 8, 3), torch.randn(1, 8, 5)
    q, k, v = (part(y)[0] for part, y in zip(attention.proj, (x, source, source), strict=True))
    heard = torch.zeros(8, 3)
    for head in range(2):
        channels = slice(head, 8, 2)  # a head's channels lie `heads` apart
        for node in range(3):
            weights = torch.softmax(q[channels, node] @ k[channels] / 4**0.5, dim=0)
            heard[channels, node] = v[channels] @ weights
    torch.testing.assert_close(attention(x, source, torch.zeros(5)), attention.merge(heard[None]))


def test_a_line_is_told_by_its_first_token_and_the_set_of_the_others() -> None:
    torch.manual_seed(2)
    encoder = LineEncoder().eval()
    tokens = torch.randn(3, 12, 256)
    shuffled = tokens[:, [0, *range(11, 0, -1)]]
    torch.testing.assert_close(encoder(tokens), encoder(shuffled), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(encoder(tokens), encoder(tokens.flip(1)), atol=1e-2)


def test_reliability_is_one_at_no_uncertainty_and_half_at_a_hundredth() -> None:
    values = reliability(torch.tensor([0.0, 0.01, -0.01, 1.0]))
    torch.testing.assert_close(values, torch.tensor([1.0, 0.5, 0.5, 1 / 101]))


def test_padding_does_not_change_the_result(network: Pl2Map) -> None:
    exact = random_descriptors(60, 15)
    padded = random_descriptors(80, 25)
    for name in INPUTS:
        count = len(exact[name])
        padded[name][:count] = exact[name]
        padded[name][count:] = MASKED if name.endswith("bias") else padded[name][count:]
    for a, b in zip(run(network, exact), run(network, padded), strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b[: len(a)], atol=1e-5)


def test_what_stands_in_for_missing_lines_does_not_matter(network: Pl2Map) -> None:
    def padded(value: float) -> Tensors:
        lines = {"line_tokens": np.full((4, 12, 256), value, np.float32), "line_bias": np.full(4, MASKED, np.float32)}
        return random_descriptors(60, 0) | lines

    np.testing.assert_array_equal(run(network, padded(0.1))[0], run(network, padded(-1.0))[0])


def test_the_exported_network_runs_in_the_engine_at_other_sizes(network: Pl2Map, tmp_path: Path) -> None:
    inputs = random_descriptors(33, 7, seed=1)
    with load_engine(export_pl2map(network, tmp_path), backend="onnxruntime", threads=1) as engine:
        outputs = engine(**inputs)
    for name, expected in zip(OUTPUTS, run(network, inputs), strict=True):
        np.testing.assert_allclose(outputs[name], expected, atol=1e-4)


@pytest.mark.parametrize("wrapper", [None, "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_arrive_unaltered(network: Pl2Map, wrapper: str | None, prefix: str, tmp_path: Path) -> None:
    weights = network.state_dict()
    state = {prefix + key: value for key, value in weights.items()}
    content = {wrapper: state, "iters": 1500000} if wrapper else state
    loaded = import_checkpoint(saved(tmp_path, content), "pl2map").state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_network_is_recognised_by_its_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        assert recognise(LAYOUTS[name].build().state_dict()) == name


def test_strange_weights_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="none of the networks pl2map, superpoint"):
        recognise({"conv.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="pl2map, superpoint"):
        import_checkpoint(tmp_path / "x", "superglue")


def test_every_key_that_does_not_fit_is_reported(network: Pl2Map, tmp_path: Path) -> None:
    state = {key: value for key, value in network.state_dict().items() if key != "mapping_p.6.bias"}
    state["gnn.extra"] = torch.zeros(1)
    state["mapping_l.6.bias"] = torch.zeros(8)
    with pytest.raises(BadWeights) as caught:
        import_weights(saved(tmp_path, state), tmp_path / "out")
    assert "1 missing: mapping_p.6.bias" in str(caught.value)
    assert "1 unexpected: gnn.extra" in str(caught.value)
    assert "1 of another shape: mapping_l.6.bias (8,) instead of (7,)" in str(caught.value)


def test_a_damaged_file_and_one_that_would_run_code_are_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(BadWeights, match=r"damaged\.pth is"):
        import_weights(damaged, tmp_path / "out")
    with pytest.raises(BadWeights, match="save its state_dict alone"):
        import_weights(saved(tmp_path, {"model_state_dict": {}, "path": tmp_path}), tmp_path / "out")


def test_a_checkpoint_becomes_a_folder_that_runs(network: Pl2Map, tmp_path: Path) -> None:
    folder = import_weights(saved(tmp_path, {"model_state_dict": network.state_dict()}), tmp_path / "out")
    assert folder == tmp_path / "out" / "pl2map"
    inputs = random_descriptors(20, 5)
    with load_engine(folder, backend="onnxruntime", threads=1) as engine:
        np.testing.assert_allclose(engine(**inputs)["points"], run(network, inputs)[0], atol=1e-4)
