# SPDX-License-Identifier: Apache-2.0
"""The network of CUT3R: names and shapes of the published checkpoints, state and memory, gate, places, heads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from cut3r_support import KINDS, TINY, images, tiny_network  # noqa: E402
from torch import Tensor  # noqa: E402

from perception_models.reconstruction.activations import points_and_confidence, pose, stretched  # noqa: E402
from perception_models.reconstruction.dpt_head import DptHead, Fusion  # noqa: E402
from perception_models.reconstruction.layers import Attention, CrossAttention  # noqa: E402
from perception_models.reconstruction.network import Encoded, ReconstructionNetwork, State, blend  # noqa: E402
from perception_models.reconstruction.rope import BASE, grid_places, turn, turns  # noqa: E402
from perception_models.reconstruction.settings import COMPACT, OFFICIAL, ReconstructionSettings  # noqa: E402

torch.set_num_threads(1)
FACTS = Path(__file__).parent / "keys"
LISTINGS = Path(os.environ.get("PERCEPTION_KEYS", Path(__file__).parents[2] / "shared" / "keys"))
PARAMETERS = {"cut3r_512_dpt": 793_307_858, "cut3r_224_linear": 748_443_655}
YES, NO = torch.ones(1), torch.zeros(1)


@pytest.fixture(scope="module")
def network() -> ReconstructionNetwork:
    return tiny_network()


def read_shapes(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


# --- names, shapes, sizes ---


@pytest.mark.parametrize("name", OFFICIAL)
def test_names_shapes_and_count_equal_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        network = ReconstructionNetwork(OFFICIAL[name])
    shapes = {key: str(tuple(value.shape)) for key, value in network.state_dict().items()}
    assert shapes == read_shapes(FACTS / f"{name}.txt")
    assert sum(weights.numel() for weights in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", OFFICIAL)
def test_committed_shapes_equal_the_listings(name: str) -> None:
    if not LISTINGS.is_dir():
        pytest.skip(f"no key listings at {LISTINGS}; set PERCEPTION_KEYS")
    assert read_shapes(FACTS / f"{name}.txt") == read_shapes(LISTINGS / f"{name}.keys.txt")


def test_the_compact_network_has_at_most_20_million_parameters() -> None:
    network = tiny_network(COMPACT)
    assert sum(weights.numel() for weights in network.parameters()) <= 20_000_000


def test_settings_survive_a_file_and_wrong_ones_are_explained() -> None:
    for settings in (COMPACT, *OFFICIAL.values()):
        assert ReconstructionSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(ValueError, match="unknown settings depth"):
        ReconstructionSettings.from_dict({"depth": 3})
    with pytest.raises(ValueError, match="cells of 32 pixels"):
        ReconstructionSettings(height=176)
    with pytest.raises(ValueError, match="dpt, linear"):
        ReconstructionSettings(head="mlp")
    with pytest.raises(ValueError, match="real encoder: give one"):
        ReconstructionNetwork(KINDS["compact"])


# --- places ---


def test_turning_equals_multiplying_complex_numbers() -> None:
    torch.manual_seed(0)
    places, channels = torch.tensor([[-1.0, -1.0], [0, 3], [5, 2]]), 24
    x = torch.randn(2, 3, channels)
    turned = turn(x, turns(places, channels))
    for row, place in enumerate(places):
        for axis in (0, 1):
            half, quarter = slice(axis * 12, axis * 12 + 12), 6
            pair = torch.complex(x[:, row, half][:, :quarter], x[:, row, half][:, quarter:])
            angle = place[axis] / BASE ** (torch.arange(quarter) / quarter)
            expected = pair * torch.polar(torch.ones(quarter), angle)
            found = turned[:, row, half]
            torch.testing.assert_close(found, torch.cat([expected.real, expected.imag], -1), atol=1e-5, rtol=1e-5)


def test_products_of_turned_vectors_depend_on_the_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 16), torch.randn(1, 16)

    def product(place_q: list[float], place_k: list[float]) -> float:
        at_q, at_k = (turns(torch.tensor([place]), 16) for place in (place_q, place_k))
        return float((turn(q, at_q) * turn(k, at_k)).sum())

    assert product([3, 4], [1, 9]) == pytest.approx(product([-1, -1], [-3, 4]), abs=1e-5)
    assert product([3, 4], [1, 9]) != pytest.approx(product([3, 4], [9, 1]), abs=1e-2)


def test_the_pose_token_stands_outside_of_the_image_and_the_state_fills_a_square(
    network: ReconstructionNetwork,
) -> None:
    channels = TINY.decoder // TINY.decoder_heads
    places = torch.cat([torch.tensor([[-1.0, -1.0]]), grid_places(4, 6)])
    torch.testing.assert_close(network.at_decoder, turns(places, channels))
    square = torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0]])
    torch.testing.assert_close(network.at_state, turns(square, channels))
    assert network.at_decoder.isfinite().all()


# --- attention ---


def test_attention_equals_a_loop_over_heads() -> None:
    torch.manual_seed(0)
    attention, x, places = Attention(24, 2), torch.randn(1, 6, 24), turns(grid_places(2, 3), 12)
    q, k, v = attention.qkv(x)[0].reshape(6, 3, 2, 12).unbind(1)
    heard = []
    for head in (0, 1):
        logits = turn(q[:, head], places) @ turn(k[:, head], places).T / 12**0.5
        heard.append(torch.softmax(logits, -1) @ v[:, head])
    torch.testing.assert_close(attention(x, places)[0], attention.proj(torch.cat(heard, -1)), atol=1e-5, rtol=1e-5)


def test_how_strongly_a_token_is_drawn_is_the_mean_of_its_logits() -> None:
    torch.manual_seed(0)
    attention, x, y = CrossAttention(24, 2), torch.randn(1, 5, 24), torch.randn(1, 6, 24)
    at_x, at_y = turns(grid_places(1, 5), 12), turns(grid_places(2, 3), 12)
    q = turn(attention.projq(x).reshape(5, 2, 12).transpose(0, 1), at_x)
    k = turn(attention.projk(y).reshape(6, 2, 12).transpose(0, 1), at_y)
    v = attention.projv(y).reshape(6, 2, 12).transpose(0, 1)
    logits = q @ k.transpose(1, 2) / 12**0.5
    heard, drawn = attention(x, y, at_x, at_y)
    torch.testing.assert_close(drawn[0], logits.mean((0, 2)), atol=1e-5, rtol=1e-5)
    expected = attention.proj((torch.softmax(logits, -1) @ v).transpose(0, 1).flatten(1))
    torch.testing.assert_close(heard[0], expected, atol=1e-5, rtol=1e-5)


# --- state ---


@torch.inference_mode()
def test_three_images_change_state_and_memory_and_are_seen_through_them(network: ReconstructionNetwork) -> None:
    initial = network.initial_state(1)
    state, fresh, seen = initial, YES, []
    for image in images(3).split(1):
        encoded = network.encode(image)
        decoded, new, gate = network.step(encoded, state, fresh)
        assert ((gate > 0) & (gate < 1)).all() and gate.shape == (1, TINY.state, 1)
        assert largest(new.tokens, state.tokens) > 1e-2 and largest(new.memory, state.memory) > 1e-2
        state, fresh = blend(state, new, YES, NO, initial), NO
        assert all(torch.equal(a, b) for a, b in zip(state, new, strict=True))
        seen.append(network.heads(encoded, decoded))
    assert all(part.isfinite().all() for outputs in seen for part in outputs)
    decoded, _, _ = network.step(encoded, initial, NO)
    assert largest(network.heads(encoded, decoded).points, seen[-1].points) > 1e-3


def test_the_first_image_takes_the_learnt_pose_token_and_later_ones_ask_the_memory(
    network: ReconstructionNetwork,
) -> None:
    with torch.inference_mode():
        encoded, initial = network.encode(images(1)), network.initial_state(1)
        other = State(initial.tokens, initial.memory.roll(1, -1))
        first, again = (network.step(encoded, state, YES)[0].pose_token for state in (initial, other))
        later, changed = (network.step(encoded, state, NO)[0].pose_token for state in (initial, other))
    assert torch.equal(first, again)
    assert largest(later, changed) > 1e-3 and largest(later, first) > 1e-3


def test_images_of_a_batch_do_not_see_each_other(network: ReconstructionNetwork) -> None:
    fresh = torch.tensor([1.0, 0.0])
    with torch.inference_mode():
        encoded = network.encode(images(2))
        state = network.initial_state(2)
        decoded, new, gate = network.step(encoded, state, fresh)
        together = (*network.heads(encoded, decoded), *new, gate)
        for row in (0, 1):
            one = network.encode(images(2)[row : row + 1])
            alone, after, its_gate = network.step(one, network.initial_state(1), fresh[row : row + 1])
            for a, b in zip(together, (*network.heads(one, alone), *after, its_gate), strict=True):
                torch.testing.assert_close(a[row], b[0], atol=1e-4, rtol=1e-4)


def a_state(value: float) -> State:
    return State(torch.full((2, 3, 4), value), torch.full((2, 2, 8), value))


def test_without_update_the_old_state_stays_and_a_reset_brings_the_initial_one() -> None:
    old, new, initial = a_state(1.0), a_state(3.0), a_state(7.0)
    after = blend(old, new, torch.tensor([0.0, 1.0]), torch.zeros(2), initial)
    assert all((part[0] == 1).all() and (part[1] == 3).all() for part in after)
    after = blend(old, new, torch.tensor([0.0, 1.0]), torch.ones(2), initial)
    assert all((part == 7).all() for part in after)


def test_a_gate_holds_tokens_but_neither_the_memory_nor_a_fresh_state() -> None:
    old, new, initial = a_state(1.0), a_state(3.0), a_state(7.0)
    gate = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 3, 1).expand(2, -1, -1)
    after = blend(old, new, torch.ones(2), torch.zeros(2), initial, gate, fresh=torch.tensor([0.0, 1.0]))
    assert after.tokens[0, :, 0].tolist() == [1.0, 1.5, 3.0]
    assert (after.tokens[1] == 3).all() and (after.memory == 3).all()


def test_a_state_that_is_not_kept_may_be_broken() -> None:
    broken, initial = a_state(torch.nan), a_state(7.0)
    after = blend(broken, broken, torch.ones(2), torch.ones(2), initial, torch.ones(2, 3, 1), torch.zeros(2))
    assert all((part == 7).all() for part in after)


def test_rays_ask_for_a_view_without_features_of_edges() -> None:
    network = tiny_network(KINDS["compact"])
    with torch.inference_mode():
        asked = network.encode_rays(torch.randn(2, 6, TINY.height, TINY.width))
        shown = network.encode(images(2))
        assert [part.shape for part in asked.fine] == [part.shape for part in shown.fine]
        assert not any(part.any() for part in asked.fine) and all(part.any() for part in shown.fine)
        decoded, _, _ = network.step(asked, network.initial_state(2), torch.zeros(2))
        assert network.heads(asked, decoded).points.isfinite().all()


# --- heads ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_gets_points_confidences_and_a_colour(kind: str) -> None:
    network = tiny_network(KINDS[kind])
    with torch.inference_mode():
        encoded = network.encode(images(2))
        decoded, _, _ = network.step(encoded, network.initial_state(2), torch.ones(2))
        outputs = network.heads(encoded, decoded)
    size = (2, TINY.height, TINY.width)
    assert outputs.points_self.shape == outputs.points.shape == outputs.rgb.shape == (*size, 3)
    assert outputs.confidence_self.shape == outputs.confidence.shape == size
    assert (outputs.confidence >= 1).all() and (outputs.rgb.abs() <= 1).all()
    assert largest(outputs.points, outputs.points_self) > 1e-3
    torch.testing.assert_close(outputs.pose[:, 3:].norm(dim=-1), torch.ones(2))
    assert (outputs.pose[:, 3] >= 0).all()


def test_features_of_edges_reach_the_points() -> None:
    network = tiny_network(KINDS["compact"])
    with torch.inference_mode():
        encoded = network.encode(images(1))
        decoded, _, _ = network.step(encoded, network.initial_state(1), YES)
        before = network.heads(encoded, decoded).points_self
        for level in (0, 1):
            fine = [part.clone() for part in encoded.fine]
            fine[level] += 1
            assert largest(network.heads(Encoded(encoded.tokens, tuple(fine)), decoded).points_self, before) > 1e-4


def test_a_dpt_head_works_at_four_resolutions() -> None:
    torch.manual_seed(0)
    head = DptHead(TINY, 4)
    tokens = [torch.randn(1, 24, width) for width in (32, 24, 24, 24)]
    maps = [
        part(level.transpose(1, 2).reshape(1, -1, 4, 6))
        for part, level in zip(head.act_postprocess, tokens, strict=True)
    ]
    assert [part.shape[1:] for part in maps] == [(8, 16, 24), (12, 8, 12), (16, 4, 6), (20, 2, 3)]
    assert head.scratch(maps).shape == (1, 8, 32, 48) and head(tokens, ()).shape == (1, 4, 64, 96)


def test_projecting_before_enlarging_changes_nothing() -> None:
    torch.manual_seed(0)
    fusion, path, beside = Fusion(4), torch.randn(1, 4, 3, 5), torch.randn(1, 4, 3, 5)
    sums = fusion.resConfUnit2(path + fusion.resConfUnit1(beside))
    published = fusion.out_conv(
        torch.nn.functional.interpolate(sums, scale_factor=2, mode="bilinear", align_corners=True)
    )
    torch.testing.assert_close(fusion(path, beside), published, atol=1e-5, rtol=1e-5)


def test_points_keep_their_direction_and_lengths_are_exponential() -> None:
    torch.manual_seed(0)
    raw = torch.randn(5, 3)
    points = stretched(raw)
    torch.testing.assert_close(points.norm(dim=-1), torch.expm1(raw.norm(dim=-1)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(points / points.norm(dim=-1, keepdim=True), raw / raw.norm(dim=-1, keepdim=True))


def test_a_quaternion_has_unit_length_and_no_negative_w() -> None:
    raw = torch.tensor([[0, 0, 0, -2.0, 2, 0, 0], [0, 0, 0, 3.0, 0, -4, 0]])
    expected = torch.tensor([[0.5**0.5, -(0.5**0.5), 0, 0], [0.6, 0, -0.8, 0]])
    torch.testing.assert_close(pose(raw)[:, 3:], expected)


def test_gradients_are_finite_where_nothing_is_said() -> None:
    raw, maps = torch.zeros(1, 7, requires_grad=True), torch.zeros(1, 4, 2, 2, requires_grad=True)
    points, confidence = points_and_confidence(maps)
    (pose(raw).sum() + points.sum() + confidence.sum()).backward()
    assert raw.grad is not None and maps.grad is not None
    assert raw.grad.isfinite().all() and maps.grad.isfinite().all()
    torch.testing.assert_close(maps.grad[:, :3], torch.ones(1, 3, 2, 2), atol=1e-3, rtol=1e-3)


def test_state_and_geometry_are_full_precision_under_autocast() -> None:
    network = tiny_network()
    with torch.autocast("cpu", torch.bfloat16):
        encoded = network.encode(images(1))
        decoded, new, gate = network.step(encoded, network.initial_state(1), YES)
        outputs = network.heads(encoded, decoded)
    assert all(part.dtype == torch.float32 for part in (*outputs, *new, gate))
    torch.testing.assert_close(outputs.pose[:, 3:].norm(dim=-1), torch.ones(1))
