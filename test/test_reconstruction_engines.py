# SPDX-License-Identifier: Apache-2.0
"""Engines of the reconstruction network: the same as torch over a stream, flags inside the graph, static, buildable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from cut3r_support import KINDS, TINY, tiny_network  # noqa: E402

from perception_models.onnx_export import PARITY, Tensors  # noqa: E402
from perception_models.reconstruction import export as exporting  # noqa: E402
from perception_models.reconstruction.export import export, main  # noqa: E402
from perception_models.reconstruction.network import ReconstructionNetwork  # noqa: E402
from perception_models.reconstruction.parts import FLAGS, parts_of  # noqa: E402
from perception_models.reconstruction.settings import ReconstructionSettings  # noqa: E402
from perception_models.reconstruction.stream_parity import stream_difference  # noqa: E402
from perception_models.runtime import Engine, load_engine  # noqa: E402
from perception_models.runtime.build import build_engines  # noqa: E402
from perception_models.runtime.facts import load_facts  # noqa: E402
from perception_models.runtime.half import to_half  # noqa: E402

torch.set_num_threads(1)
PARTS = ("encoder", "decoder", "heads", "rays")


@pytest.fixture(scope="module")
def network() -> ReconstructionNetwork:
    return tiny_network(KINDS["compact"])


@pytest.fixture(scope="module")
def folder(network: ReconstructionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported from the checkpoint of a training."""
    folder = tmp_path_factory.mktemp("reconstruction")
    average = network.state_dict()
    torch.save({"settings": network.settings.to_dict(), "average": average}, folder / "checkpoint.pt")
    main([str(folder / "checkpoint.pt"), str(folder / "weights")])
    return folder / "weights"


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Engine:
    return load_engine(folder / "decoder", "onnxruntime", threads=1)


def example(decoder: Engine, **flags: float) -> Tensors:
    rng = np.random.default_rng(0)
    given: Tensors = {
        name: rng.normal(size=spec.shape).astype(np.float32)  # type: ignore[arg-type]
        for name, spec in decoder.facts.inputs.items()
    }
    return given | {name: np.array([flags.get(name, 0)], np.float32) for name in FLAGS}


def test_engines_and_torch_agree_over_fifty_images_with_the_state_carried_along(
    network: ReconstructionNetwork, folder: Path
) -> None:
    figures = load_facts(folder / "decoder").figures
    assert figures["frames"] == 50 and figures["torch_to_onnx_difference"] <= PARITY
    assert stream_difference(parts_of(network), folder, frames=3) <= PARITY


@pytest.mark.parametrize("kind", ["dpt", "linear"])
def test_the_kinds_of_the_published_networks_agree_too(kind: str, tmp_path: Path) -> None:
    export(tiny_network(KINDS[kind]), tmp_path, frames=6)
    assert load_facts(tmp_path / "decoder").figures["torch_to_onnx_difference"] <= PARITY
    assert ("level1" in load_facts(tmp_path / "heads").inputs) == (kind == "dpt")


def test_an_export_that_differs_is_refused(
    network: ReconstructionNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exporting.write_onnx

    def spoil(part: torch.nn.Module, *arguments: object) -> None:
        write(part, *arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            network.dec_norm.bias.add_(0.05)

    monkeypatch.setattr(exporting, "write_onnx", spoil)
    try:
        with pytest.raises(ValueError, match="do not use"):
            export(network, tmp_path, frames=2)
    finally:
        with torch.no_grad():
            network.dec_norm.bias.zero_()


# --- the decoder's flags ---


def test_without_update_state_and_memory_come_out_as_they_went_in(decoder: Engine) -> None:
    given = example(decoder)
    found = decoder(**given)
    np.testing.assert_array_equal(found["next_state"], given["state"])
    np.testing.assert_array_equal(found["next_memory"], given["memory"])
    changed = decoder(**example(decoder, update=1))
    assert np.abs(changed["next_state"] - given["state"]).max() > 0.1
    assert np.abs(changed["next_memory"] - given["memory"]).max() > 0.1
    np.testing.assert_array_equal(changed["level3"], found["level3"])


def test_a_reset_gives_the_initial_state_whatever_came_in(network: ReconstructionNetwork, decoder: Engine) -> None:
    with torch.inference_mode():
        initial = network.initial_state(1)
    given = example(decoder, update=1, reset=1) | {"state": np.full((1, TINY.state, TINY.decoder), np.nan, np.float32)}
    found = decoder(**given)
    np.testing.assert_array_equal(found["next_state"], initial.tokens.numpy())
    np.testing.assert_array_equal(found["next_memory"], initial.memory.detach().numpy())


def test_a_fresh_state_is_the_initial_one_and_what_was_carried_is_ignored(decoder: Engine) -> None:
    given = example(decoder, fresh=1, update=1, gated=1)
    broken = {name: np.full_like(given[name], np.nan) for name in ("state", "memory")}
    for (name, expected), found in zip(decoder(**given).items(), decoder(**given | broken).values(), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_a_gate_shortens_the_way_of_tokens_and_nothing_else(decoder: Engine) -> None:
    free, held = decoder(**example(decoder, update=1)), decoder(**example(decoder, update=1, gated=1))
    old = example(decoder)["state"]
    shares = (held["next_state"] - old) / (free["next_state"] - old)
    assert np.ptp(shares, axis=-1).max() < 0.05 and ((shares > 0) & (shares < 1)).all()
    np.testing.assert_array_equal(held["next_memory"], free["next_memory"])
    free, held = (decoder(**example(decoder, update=1, fresh=1, gated=gated)) for gated in (0, 1))
    np.testing.assert_array_equal(held["next_state"], free["next_state"])


# --- graphs ---


@pytest.mark.parametrize("name", PARTS)
def test_graphs_are_static_and_their_facts_are_complete(
    network: ReconstructionNetwork, folder: Path, name: str
) -> None:
    facts = load_facts(folder / name)
    assert all(isinstance(axis, int) for spec in facts.tensors.values() for axis in spec.shape)
    assert ReconstructionSettings.from_dict(dict(facts.settings)) == network.settings
    kinds = {node.op_type for node in onnx.load(folder / name / "model.onnx").graph.node}
    assert not kinds & {"If", "Loop", "Range", "Sin", "Cos", "NonZero"}
    assert name == "encoder" or "Shape" not in kinds  # XFeat's asks how large its own maps are


@pytest.mark.parametrize("name", ["encoder", "decoder", "rays"])
def test_norms_and_residual_sums_stay_fp32_in_half_precision(folder: Path, name: str) -> None:
    facts = load_facts(folder / name)
    half = onnx.load_from_string(to_half(facts.read_onnx(), facts.keep_fp32))
    graph = onnx.shape_inference.infer_shapes(half).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    sums = [node for node in graph.node if node.op_type == "Add" and "blocks" in node.name.split("/")[-2]]
    assert len(norms) >= 3 and len(sums) >= 2
    for node in (*norms, *sums):
        assert kinds[node.input[0]] == onnx.TensorProto.FLOAT, node.name


def test_all_engines_build_for_sm86_in_both_precisions(folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: nothing can be built here")
    for report in build_engines("SM86", folders=[folder / name for name in PARTS]):
        assert report.ok and report.precision == report.requested and "would refuse" not in report.note, report
