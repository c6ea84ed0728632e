# SPDX-License-Identifier: Apache-2.0
"""DSVT's layers against torch's own multi-head attention and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.detection.bev_backbones import DynamicPillarVfe, run_maximum  # noqa: E402
from perception_models.detection.dsvt import Dsvt, SetAttention, SetTensors  # noqa: E402
from perception_models.detection.dsvt_sets import RotatedSets, SetWindows, rotated_sets  # noqa: E402

torch.set_num_threads(1)
WINDOWS = (SetWindows((6, 6)), SetWindows((12, 12), (3, 3)))
VOXELS, CHANNELS, HEADS, SET_SIZE = 150, 16, 4, 10


def as_tensors(sets: RotatedSets) -> SetTensors:
    arrays = (sets.members, sets.duplicates, sets.slots, sets.positions)
    return SetTensors(*(torch.from_numpy(array) for array in arrays))


@pytest.fixture
def sets() -> list[SetTensors]:
    chosen = np.random.default_rng(1).choice(900, size=VOXELS, replace=False)
    cells = np.stack([chosen % 30, chosen // 30], axis=1)
    return [as_tensors(rotated_sets(cells, windows, SET_SIZE)) for windows in WINDOWS]


def reference_attention(
    layer: SetAttention, x: torch.Tensor, position: torch.Tensor, sets: SetTensors, axis: int
) -> torch.Tensor:
    """Set by set with nn.MultiheadAttention and without the repeated voxels: each set is a set, not a list."""
    attention = torch.nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True).eval()
    attention.load_state_dict(layer.self_attn.state_dict())
    attended = torch.full_like(x, float("nan"))
    for members in sets.members[axis]:
        voxels = torch.unique(members)
        tokens, located = x[voxels][None], (x + position)[voxels][None]
        result = attention(located, located, tokens)[0][0]
        fresh = attended[voxels].isnan()
        attended[voxels] = torch.where(fresh, result, attended[voxels])
    x = layer.norm1(x + attended)
    return layer.norm2(x + layer.linear2(torch.nn.functional.gelu(layer.linear1(x))))


@pytest.mark.parametrize("axis", [0, 1])
def test_set_attention_equals_multi_head_attention_set_by_set(sets: list[SetTensors], axis: int) -> None:
    torch.manual_seed(0)
    layer = SetAttention(CHANNELS, HEADS, 32).eval()
    x, position = torch.randn(VOXELS, CHANNELS), torch.randn(VOXELS, CHANNELS)
    with torch.no_grad():
        got = layer(x, position, sets[0].members[axis], sets[0].duplicates[axis], sets[0].slots[axis])
        expected = reference_attention(layer, x, position, sets[0], axis)
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)


def test_layers_take_windows_by_block_and_position_embeddings_by_layer(sets: list[SetTensors]) -> None:
    """The published weights go with this pairing: odd blocks use the shifted sets, layer i the embedding i."""
    torch.manual_seed(0)
    model = Dsvt(CHANNELS, HEADS, 32, blocks=2).eval()
    x = torch.randn(VOXELS, CHANNELS)
    with torch.no_grad():
        expected = x
        for number in range(2):
            block, before = model.stage_0[number], expected
            for axis in range(2):
                embedding = model.input_layer.posembed_layers[0][number][axis](sets[axis].positions)
                layer = block.encoder_list[axis]
                attended = reference_attention(layer.win_attn, expected, embedding, sets[number], axis)
                expected = layer.norm(expected + attended)
            expected = model.residual_norm_stage_0[number](before + expected)
        torch.testing.assert_close(model(x, sets), expected, atol=1e-5, rtol=1e-5)


def test_padding_voxels_and_sets_leave_the_others_alone(sets: list[SetTensors]) -> None:
    torch.manual_seed(0)
    model = Dsvt(CHANNELS, HEADS, 32, blocks=2).eval()
    x = torch.randn(VOXELS, CHANNELS)
    pad = torch.nn.functional.pad
    widths = SetTensors((0, 0, 0, 5), (0, 0, 0, 5), (0, 9), (0, 0, 0, 9))  # type: ignore[arg-type]
    padded = [SetTensors(*(pad(tensor, width) for tensor, width in zip(s, widths, strict=True))) for s in sets]
    with torch.no_grad():
        torch.testing.assert_close(model(pad(x, (0, 0, 0, 9)), padded)[:VOXELS], model(x, sets), atol=1e-5, rtol=1e-5)


def pillar_runs(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """last, first and owner of rows that lie in consecutive runs of the given lengths."""
    count = torch.tensor(lengths)
    end = count.cumsum(0)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), count)
    return (end - 1)[owner], end - count, owner


def test_run_maximum_equals_a_loop_over_runs() -> None:
    last, first, owner = pillar_runs([1, 5, 64, 2, 33])
    values = torch.randn(105, 3)
    expected = torch.stack([values[owner == run].amax(dim=0) for run in range(5)])
    assert torch.equal(run_maximum(values, last, doublings=6)[first], expected)


def test_pillar_encoder_pools_points_of_one_pillar_only() -> None:
    torch.manual_seed(0)
    encoder = DynamicPillarVfe(8, doublings=3).eval()
    lengths = [3, 1, 8]
    points = torch.randn(12, 11)
    last, first, owner = pillar_runs(lengths)
    with torch.no_grad():
        together = encoder(points, last, first, owner)
        alone = [encoder(part, *pillar_runs([len(part)])) for part in torch.split(points, lengths)]
        torch.testing.assert_close(together, torch.cat(alone))
        local = encoder.pfn_layers[0](points[:3])
        by_hand = encoder.pfn_layers[1](torch.cat([local, local.amax(0).expand(3, -1)], dim=1)).amax(0)
        torch.testing.assert_close(together[0], by_hand)
