# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of registration: recognised by their tensors, loaded unaltered, refused with reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.registration.checkpoints import (  # noqa: E402
    import_checkpoint,
    import_weights,
    recognise,
)
from perception_models.registration.geotransformer import GeoTransformer  # noqa: E402
from perception_models.registration.geotransformer_settings import PUBLISHED  # noqa: E402
from perception_models.runtime import BadWeights, load_facts  # noqa: E402

torch.set_num_threads(1)
NAME = "geotransformer_modelnet"  # the smallest


@pytest.fixture(scope="module")
def network() -> GeoTransformer:
    torch.manual_seed(0)
    network = GeoTransformer(PUBLISHED[NAME]).eval()
    with torch.no_grad():
        network.optimal_transport.alpha.fill_(2.5)
    return network


def saved(folder: Path, content: Any) -> Path:
    file = folder / "checkpoint.pth.tar"
    torch.save(content, file)
    return file


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_arrive_unaltered(network: GeoTransformer, prefix: str, tmp_path: Path) -> None:
    weights = network.state_dict()
    content = {"model": {prefix + key: value for key, value in weights.items()}, "epoch": 40}
    loaded = import_checkpoint(saved(tmp_path, content), NAME).state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_is_recognised_by_its_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        assert recognise(GeoTransformer(PUBLISHED[name]).state_dict()) == name


def test_strange_weights_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="none of the networks geotransformer_3dmatch"):
        recognise({"conv.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="unknown network 'predator'; there are geotransformer_3dmatch"):
        import_checkpoint(tmp_path / "x", "predator")


def test_every_key_that_does_not_fit_is_reported(network: GeoTransformer, tmp_path: Path) -> None:
    state = {key: value for key, value in network.state_dict().items() if key != "transformer.in_proj.bias"}
    state["transformer.extra"] = torch.zeros(1)
    state["optimal_transport.alpha"] = torch.zeros(2)
    with pytest.raises(BadWeights) as caught:
        import_weights(saved(tmp_path, {"model": state}), tmp_path / "out")
    assert "1 missing: transformer.in_proj.bias" in str(caught.value)
    assert "1 unexpected: transformer.extra" in str(caught.value)
    assert "1 of another shape: optimal_transport.alpha (2,) instead of ()" in str(caught.value)


def test_a_damaged_file_and_one_that_would_run_code_are_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(BadWeights, match=r"damaged\.pth is"):
        import_weights(damaged, tmp_path / "out")
    with pytest.raises(BadWeights, match="save its state_dict alone"):
        import_weights(saved(tmp_path, {"model": {}, "path": tmp_path}), tmp_path / "out")


def test_a_checkpoint_becomes_a_folder_with_its_settings(network: GeoTransformer, tmp_path: Path) -> None:
    folder = import_weights(saved(tmp_path, {"model": network.state_dict()}), tmp_path / "out")
    assert folder == tmp_path / "out" / NAME
    facts = load_facts(folder)
    assert facts.settings["dustbin"] == 2.5 and facts.settings["stages"] == 3
    assert facts.figures["torch_to_onnx_difference"] < 1e-3
