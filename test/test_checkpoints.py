# SPDX-License-Identifier: Apache-2.0
"""Importing checkpoint files of the published detectors: wrappers, prefixes, and files that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.detection.checkpoints import (  # noqa: E402
    import_checkpoint,
    import_weights,
    read_state,
    recognise,
)
from perception_models.detection.official import build_official  # noqa: E402
from perception_models.detection.official_preprocess import OFFICIAL  # noqa: E402
from perception_models.runtime import BadWeights, load_engine  # noqa: E402
from perception_models.runtime.precision import parse_samples, read_samples  # noqa: E402

torch.set_num_threads(1)
NAME = "flatformer_waymo"
BIAS = "bbox_head.task_heads.0.heatmap.1.bias"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return build_official(NAME).state_dict()  # type: ignore[no-any-return]


def saved(folder: Path, content: Any) -> Path:
    file = folder / "checkpoint.pth"
    torch.save(content, file)
    return file


@pytest.mark.parametrize("wrapper", [None, "model_state", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_arrive_unaltered(weights: dict[str, torch.Tensor], wrapper: str, prefix: str, tmp_path: Path) -> None:
    state = {prefix + key: value for key, value in weights.items()}
    content = {wrapper: state, "epoch": 24, "version": "x"} if wrapper else state
    detector = import_checkpoint(saved(tmp_path, content), NAME)
    assert not detector.training
    loaded = detector.state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_detector_is_recognised_by_its_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        state = build_official(name).state_dict()
    assert recognise(state) == name


def test_strange_weights_are_recognised_as_none() -> None:
    with pytest.raises(BadWeights, match="none of the detectors dsvt_pillar_waymo"):
        recognise({"conv.weight": torch.zeros(3)})


def test_every_key_that_does_not_fit_is_reported(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state = {key: value for key, value in weights.items() if key != BIAS}
    state["bbox_head.extra"] = torch.zeros(1)
    state["middle_encoder.block_list.0.block.0.fc1.bias"] = torch.zeros(99)
    with pytest.raises(BadWeights) as caught:
        import_checkpoint(saved(tmp_path, state), NAME)
    assert f"1 missing: {BIAS}" in str(caught.value)
    assert "1 unexpected: bbox_head.extra" in str(caught.value)
    assert "1 of another shape: middle_encoder.block_list.0.block.0.fc1.bias (99,) instead of" in str(caught.value)


def test_what_is_known_not_to_be_weights_of_the_network_is_left_out(tmp_path: Path) -> None:
    name = "dsvt_pillar_nuscenes"
    state = build_official(name).state_dict()
    extra = {"global_step": torch.zeros(1), "dense_head.shared_conv.weight": torch.zeros(2)}
    import_checkpoint(saved(tmp_path, {"model_state": state | extra}), name)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, {"state_dict": {}, "meta": tmp_path})
    with pytest.raises(BadWeights, match="save its state_dict alone"):
        read_state(file)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.pth"
    file.write_bytes(content)
    with pytest.raises(BadWeights, match=r"broken\.pth is"):
        read_state(file)


def test_a_checkpoint_without_tensors_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="holds no weights"):
        read_state(saved(tmp_path, {"epoch": 3}))
    with pytest.raises(BadWeights, match="does not exist"):
        read_state(tmp_path / "nowhere.pth")


def test_a_checkpoint_becomes_a_weights_folder_that_runs(
    weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = OFFICIAL[NAME]
    grid = replace(settings.grid, extent=20 * settings.grid.cell)
    monkeypatch.setitem(OFFICIAL, NAME, replace(settings, grid=grid, doublings=8, max_points=20000, max_pillars=1440))
    folder = import_weights(saved(tmp_path, {"state_dict": weights}), tmp_path / "weights")
    assert folder == tmp_path / "weights" / NAME
    sample = parse_samples(read_samples(folder))[0]
    engine = load_engine(folder, backend="onnxruntime")
    outputs = engine(**sample)
    engine.close()
    detector = import_checkpoint(tmp_path / "checkpoint.pth", NAME)
    with torch.no_grad():
        expected = detector(*(torch.from_numpy(sample[key]) for key in detector.inputs))
    for key, value in zip(detector.outputs, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(outputs[key]), value, atol=1e-3, rtol=1e-3)


def test_a_model_whose_head_is_not_built_is_not_exported(tmp_path: Path) -> None:
    state = build_official("dsvt_pillar_nuscenes").state_dict()
    with pytest.raises(ValueError, match="head is not supported"):
        import_weights(saved(tmp_path, state), tmp_path)
