# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints of CUT3R: what is let in, recognised, filled in and refused."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from cut3r_support import KINDS, tiny_network  # noqa: E402
from torch import Tensor  # noqa: E402

from perception_models.reconstruction.checkpoints import import_checkpoint, import_weights, recognise  # noqa: E402
from perception_models.reconstruction.network import ReconstructionNetwork  # noqa: E402
from perception_models.reconstruction.settings import OFFICIAL  # noqa: E402
from perception_models.runtime import BadWeights  # noqa: E402
from perception_models.runtime.facts import load_facts  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def tiny_official(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published networks, tiny."""
    for name, kind in zip(list(OFFICIAL), ("dpt", "linear"), strict=True):
        monkeypatch.setitem(OFFICIAL, name, KINDS[kind])


def saved(folder: Path, content: Any) -> Path:
    """As the released files are: weights beside the arguments of their training."""
    file = folder / "checkpoint.pth"
    torch.save({"args": argparse.Namespace(model="Network()", batch_size=4), "model": content, "epoch": 9}, file)
    return file


def state_of(kind: str) -> dict[str, Tensor]:
    return dict(tiny_network(KINDS[kind]).state_dict())


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_a_published_layout_is_recognised_by_its_heads(name: str) -> None:
    with torch.device("meta"):
        assert recognise(ReconstructionNetwork(OFFICIAL[name]).state_dict()) == name


@pytest.mark.usefixtures("tiny_official")
def test_a_checkpoint_with_the_arguments_of_its_training_becomes_a_folder_of_engines(tmp_path: Path) -> None:
    state = state_of("linear")
    out = import_weights(saved(tmp_path, state), tmp_path / "out")
    assert out == tmp_path / "out" / "cut3r_224_linear"
    assert load_facts(out / "decoder").variant == "cut3r_224_linear_decoder"
    network = import_checkpoint(saved(tmp_path, state), "cut3r_224_linear")
    assert not network.training
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@pytest.mark.usefixtures("tiny_official")
def test_blocks_of_the_state_begin_as_those_of_the_image_where_they_are_missing(tmp_path: Path) -> None:
    state = {key: value for key, value in state_of("dpt").items() if not key.startswith("dec_blocks_state")}
    network = import_checkpoint(saved(tmp_path, state), "cut3r_512_dpt")
    assert torch.equal(network.dec_blocks_state[1].mlp.fc1.weight, network.dec_blocks[1].mlp.fc1.weight)


@pytest.mark.usefixtures("tiny_official")
def test_every_key_that_does_not_fit_is_reported(tmp_path: Path) -> None:
    state = {key: value for key, value in state_of("dpt").items() if key != "pose_token"}
    state["extra"] = torch.zeros(1)
    state["enc_norm.bias"] = torch.zeros(8)
    with pytest.raises(BadWeights) as caught:
        import_weights(saved(tmp_path, state), tmp_path / "out")
    assert "does not fit cut3r_512_dpt" in str(caught.value)
    assert "1 missing: pose_token" in str(caught.value)
    assert "1 unexpected: extra" in str(caught.value)
    assert "1 of another shape: enc_norm.bias (8,) instead of (32,)" in str(caught.value)


def test_other_classes_in_a_file_are_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pth"
    torch.save({"args": Fraction(1, 2), "model": {"pose_token": torch.zeros(1)}}, file)
    with pytest.raises(BadWeights, match="could run code"):
        import_weights(file, tmp_path / "out")


def test_the_arguments_are_let_in_for_this_file_alone(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    with pytest.raises(BadWeights, match="none of the networks cut3r_512_dpt, cut3r_224_linear"):
        import_weights(saved(tmp_path, {"conv.weight": torch.zeros(3)}), tmp_path / "out")
    assert set(torch.serialization.get_safe_globals()) == before


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cut3r_512_dpt, cut3r_224_linear"):
        import_checkpoint(tmp_path / "x", "dust3r")
