# SPDX-License-Identifier: Apache-2.0
"""Published trackers: names, shapes, import; M2-Track's geometry against rotation matrices."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from perception_models.runtime import BadWeights, load_engine
from perception_models.tracking import MultiTracker
from perception_models.tracking.checkpoints import PUBLISHED, example, import_checkpoint, import_weights
from perception_models.tracking.m2track import M2Track

KEYS = Path(__file__).parent / "keys"
LISTINGS = Path(os.environ.get("PERCEPTION_KEYS", "/work/shared/keys"))


def read_shapes(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_equal_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        built = {key: str(tuple(value.shape)) for key, value in PUBLISHED[name]().state_dict().items()}
    assert built == read_shapes(KEYS / f"{name}.txt")


@pytest.mark.parametrize("name", PUBLISHED)
def test_committed_shapes_equal_the_listings(name: str) -> None:
    if not LISTINGS.is_dir():
        pytest.skip(f"no key listings at {LISTINGS}; set PERCEPTION_KEYS")
    assert read_shapes(KEYS / f"{name}.txt") == read_shapes(LISTINGS / f"{name}.keys.txt")


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_imported_checkpoint_runs_as_torch_does(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = PUBLISHED[name]().eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "last.ckpt")
    folder = import_weights(tmp_path / "last.ckpt", tmp_path)
    with pytest.raises(ValueError, match="runs as a network only"):
        MultiTracker.load(str(folder))
    assert folder.name == name
    inputs = example(name)
    with torch.inference_mode():
        expected = network(*(torch.from_numpy(array) for array in inputs.values()))
    with load_engine(folder, "onnxruntime", threads=1) as engine:
        for output, wanted in zip(engine(**inputs).values(), expected, strict=True):
            np.testing.assert_allclose(output, wanted.numpy(), atol=1e-3)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"seg_pointnet.fc.bias": torch.zeros(11)}}, file)
    with pytest.raises(BadWeights, match="does not fit m2track: .* missing"):
        import_checkpoint(file, "m2track")
    torch.save({"state_dict": {"head.bias": torch.zeros(11)}}, file)
    with pytest.raises(BadWeights, match="belong to none of the trackers"):
        import_weights(file, tmp_path)


def test_the_last_box_of_m2track_is_the_chain_of_previous_box_motion_and_refinement() -> None:
    network = M2Track().eval()
    values = {"final_mlp": [1.0, 2.0, 0.5, 0.3], "motion_mlp": [0.4, -0.2, 0.1, -0.5], "box_mlp": [0.1, 0.2, 0.0, 0.1]}
    with torch.no_grad():
        for name, bias in [*values.items(), ("motion_state_mlp", [0.0, 1.0])]:
            last = getattr(network, name)[-1]
            last.weight.zero_()
            last.bias.copy_(torch.tensor(bias))
        box = network(torch.from_numpy(example("m2track")["points"]))[0].numpy()
    chain = np.eye(4)
    for x, y, z, yaw in (values["final_mlp"], values["motion_mlp"], values["box_mlp"]):
        step = np.eye(4)
        step[:2, :2], step[:3, 3] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]], (x, y, z)
        chain = chain @ step
    np.testing.assert_allclose(box[:, :3], np.tile(chain[:3, 3], (2, 1)), atol=1e-5)
    np.testing.assert_allclose(box[:, 3], np.arctan2(chain[1, 0], chain[0, 0]), atol=1e-5)
