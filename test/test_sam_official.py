# SPDX-License-Identifier: Apache-2.0
"""SAM: names and shapes of the published checkpoints, parts against loops, prompts, engines, import."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from torch import Tensor, nn  # noqa: E402

from perception_models.runtime import BadWeights, load_engine  # noqa: E402
from perception_models.runtime.build import build_engines  # noqa: E402
from perception_models.runtime.facts import load_facts  # noqa: E402
from perception_models.runtime.half import to_half  # noqa: E402
from perception_models.segmentation.checkpoints import import_checkpoint, import_weights, recognise  # noqa: E402
from perception_models.segmentation.predictor import MaskPredictor  # noqa: E402
from perception_models.segmentation.sam import Sam  # noqa: E402
from perception_models.segmentation.sam_backend import DEVIATION, MEAN, SamBackend, fit  # noqa: E402
from perception_models.segmentation.sam_encoder import RelativeAttention, merge, partition  # noqa: E402
from perception_models.segmentation.sam_export import encoder_parts, example_picture, export_sam  # noqa: E402
from perception_models.segmentation.sam_prompts import Prompts  # noqa: E402
from perception_models.segmentation.sam_settings import PUBLISHED, SamSettings  # noqa: E402

torch.set_num_threads(1)
FACTS = Path(__file__).parent / "keys"
LISTINGS = Path(os.environ.get("PERCEPTION_KEYS", Path(__file__).parents[2] / "shared" / "keys"))
SMALL = SamSettings(width=96, depth=2, heads=3, global_blocks=(1,), image_size=256, channels=128, decoder_mlp=512)
CLICK, CLICK_LABEL = np.array([[[30.0, 20.0]]]), np.array([[1]])


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    network = Sam(SMALL).eval()
    for name, weights in network.named_parameters():
        if "pos" in name:  # the positions of patches start as zeros, which would hide mistakes
            nn.init.normal_(weights)
    return network


@pytest.fixture(scope="module")
def folder(sam: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_sam(sam, "small", tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def backend(folder: Path) -> SamBackend:
    return SamBackend.load(folder, backend="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return example_picture(160)


def read_shapes(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def answer(
    sam: Sam, features: Tensor, coordinates: Tensor, labels: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    count, side = len(labels), SMALL.mask_size
    masks = torch.zeros(count, 1, side, side) if mask is None else mask
    with torch.inference_mode():
        logits, scores = sam.answering(
            features, coordinates, labels, masks, torch.full((count,), float(mask is not None))
        )
    return logits, scores


def saved(folder: Path, state: dict[str, Tensor]) -> Path:
    file = folder / "checkpoint.pth"
    torch.save(state, file)
    return file


# --- the network ---


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_equal_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        state = Sam(PUBLISHED[name]).state_dict()
    assert {key: str(tuple(value.shape)) for key, value in state.items()} == read_shapes(FACTS / f"{name}.txt")


@pytest.mark.parametrize("name", PUBLISHED)
def test_committed_shapes_equal_the_listings(name: str) -> None:
    if not LISTINGS.is_dir():
        pytest.skip(f"no key listings at {LISTINGS}; set PERCEPTION_KEYS")
    assert read_shapes(FACTS / f"{name}.txt") == read_shapes(LISTINGS / f"{name}.keys.txt")


def test_attention_with_relative_positions_equals_a_loop_over_queries_and_keys() -> None:
    torch.manual_seed(1)
    side, heads, channels = 3, 2, 4
    attention = RelativeAttention(heads * channels, heads, side)
    nn.init.normal_(attention.rel_pos_h)
    nn.init.normal_(attention.rel_pos_w)
    x = torch.randn(1, side, side, heads * channels)
    q, k, v = attention.qkv(x[0]).reshape(side, side, 3, heads, channels).unbind(2)
    heard = torch.zeros(side, side, heads, channels)
    for head in range(heads):
        for y, column in np.ndindex(side, side):
            query = q[y, column, head]
            logits = torch.zeros(side, side)
            for key_y, key_column in np.ndindex(side, side):
                places = attention.rel_pos_h[y - key_y + 2] + attention.rel_pos_w[column - key_column + 2]
                logits[key_y, key_column] = query @ k[key_y, key_column, head] / channels**0.5 + query @ places
            weights = torch.softmax(logits.flatten(), dim=0)
            heard[y, column, head] = weights @ v[:, :, head].flatten(0, 1)
    torch.testing.assert_close(attention(x)[0], attention.proj(heard.flatten(2)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("grid", "window"), [(16, 14), (9, 3), (5, 7)])
def test_cutting_into_windows_and_merging_leaves_an_image_unchanged(grid: int, window: int) -> None:
    x = torch.randn(2, grid, grid, 3)
    windows = partition(x, grid, window)
    across = -(-grid // window)
    assert windows.shape == (2 * across**2, window, window, 3)
    torch.testing.assert_close(windows[0, : min(grid, window), : min(grid, window)], x[0, :window, :window])
    assert torch.equal(merge(windows, grid, window), x)


def test_a_block_with_windows_does_not_look_beyond_them(sam: Sam) -> None:
    block, x = sam.image_encoder.blocks[0], torch.randn(1, 16, 16, SMALL.width)
    touched = x.clone()
    touched[0, 0, 0] = torch.randn(SMALL.width)
    with torch.inference_mode():
        changed = (block(touched) != block(x)).any(dim=-1)[0]
    assert changed[:14, :14].all() and changed.sum() == 14 * 14


def test_a_place_is_told_by_sines_and_cosines_of_the_published_frequencies(sam: Sam) -> None:
    prompts, (row, column) = sam.prompt_encoder, (3, 11)
    x, y = (2 * (column + 0.5) / SMALL.grid - 1), (2 * (row + 0.5) / SMALL.grid - 1)
    gaussian = prompts.pe_layer.positional_encoding_gaussian_matrix
    phases = 2 * np.pi * (x * gaussian[0] + y * gaussian[1])
    expected = torch.cat([torch.sin(phases), torch.cos(phases)])
    torch.testing.assert_close(prompts.image_positions()[0, :, row, column], expected, atol=1e-5, rtol=1e-5)


# --- prompts ---


def tokens_of(sam: Sam, coordinates: list[list[float]], labels: list[int]) -> Tensor:
    """One token a point, built by hand; label -1 is SAM's "no point" token."""
    prompts = sam.prompt_encoder
    places = prompts.pe_layer((torch.tensor(coordinates) + 0.5) / SMALL.image_size)
    kinds = list(prompts.point_embeddings.parameters())
    rows = [
        prompts.not_a_point_embed.weight[0] if label < 0 else place + kinds[label][0]
        for place, label in zip(places, labels, strict=True)
    ]
    tokens: Tensor = torch.stack(rows)[None]
    return tokens


@pytest.mark.parametrize(
    ("labels", "heard"),
    [
        ([1], [1, -1]),  # a click brings the token for "no point"
        ([0, 1, -1, -1], [0, 1, -1]),
        ([2, 3, -1], [2, 3]),  # a box does not
        ([-1, 2, 3, 1], [1, 2, 3]),  # places of padding and the order of points do not matter
    ],
)
def test_exactly_the_tokens_of_the_published_network_are_heard(sam: Sam, labels: list[int], heard: list[int]) -> None:
    features = torch.randn(1, SMALL.channels, SMALL.grid, SMALL.grid)
    points = {label: [20.0 + 50 * label, 70.0 + 30 * label] for label in range(-1, 4)}
    given = torch.tensor([[points[label] for label in labels]])
    logits, scores = answer(sam, features, given, torch.tensor([labels]))
    tokens = tokens_of(sam, [points[label] for label in heard], heard)
    dense = sam.prompt_encoder.no_mask_embed.weight[:, :, None, None].expand(1, -1, SMALL.grid, SMALL.grid)
    alone = Prompts(tokens, torch.zeros(1, len(heard)), dense)
    with torch.inference_mode():
        expected = sam.mask_decoder(features, sam.prompt_encoder.image_positions(), alone)
    torch.testing.assert_close(logits, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores, expected[1], atol=1e-5, rtol=1e-5)


def test_a_mask_is_a_prompt_of_its_own(sam: Sam) -> None:
    features, side = torch.randn(1, SMALL.channels, SMALL.grid, SMALL.grid), SMALL.mask_size
    nowhere, none = torch.zeros(1, 1, 2), torch.tensor([[-1]])
    mask = torch.randn(1, 1, side, side)
    with torch.inference_mode():
        prompts = sam.prompt_encoder(nowhere, none, mask, torch.ones(1))
        assert torch.equal(prompts.dense, sam.prompt_encoder.mask_downscaling(mask))
        assert (prompts.bias < 0).all()
    without, given = (answer(sam, features, nowhere, none, m)[0] for m in (None, mask))
    assert not torch.allclose(without, given, atol=1e-4)


def test_padding_and_company_do_not_change_an_answer(backend: SamBackend, picture: np.ndarray) -> None:
    features = backend.encode(picture)
    rng = np.random.default_rng(0)
    coordinates, labels = rng.uniform(0, 120, (20, 5, 2)), rng.integers(0, 2, (20, 5))  # more than the engine takes
    labels[:, 3:] = -1
    labels[7] = -1, 2, 3, 1, -1
    logits, scores = backend.decode(features, coordinates, labels)
    assert logits.shape == (20, 3, SMALL.mask_size, SMALL.mask_size) and scores.shape == (20, 3)
    for row in (0, 7, 19):
        points = labels[row] >= 0
        alone, score = backend.decode(features, coordinates[row : row + 1, points], labels[row : row + 1, points])
        np.testing.assert_allclose(alone[0], logits[row], atol=1e-5)
        np.testing.assert_allclose(score[0], scores[row], atol=1e-5)


def test_an_engine_that_wants_its_full_capacity_answers_alike(folder: Path, picture: np.ndarray) -> None:
    backend = SamBackend.load(folder, backend="onnxruntime", threads=1)
    features = backend.encode(picture)
    expected = backend.decode(features, CLICK, CLICK_LABEL)
    backend.engines[-1].pads_to_capacity = True  # type: ignore[misc]
    for a, b in zip(backend.decode(features, CLICK, CLICK_LABEL), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_prompts_that_cannot_be_meant_are_explained(backend: SamBackend, picture: np.ndarray) -> None:
    features, label = backend.encode(picture), CLICK_LABEL
    for coordinates, labels, mask, reason in (
        (CLICK[0], label, None, r"coordinates \(B, K, 2\)"),
        (CLICK, label + 3, None, "labels are 1, 0, 2 and 3"),
        (CLICK * np.nan, label, None, "not finite"),
        (np.zeros((1, 17, 2)), np.ones((1, 17), int), None, "17 points .* this engine takes 16"),
        (CLICK, label, np.zeros((1, 9, 9), np.float32), r"masks of 1 prompts are \(1, 64, 64\)"),
    ):
        with pytest.raises(ValueError, match=reason):
            backend.decode(features, coordinates, labels, mask)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        backend.encode(picture.astype(np.float32))


# --- images and engines ---


@pytest.mark.parametrize(("shape", "filled"), [((60, 80), (64, 48)), ((80, 60), (48, 64)), ((1, 640), (64, 1))])
def test_an_image_fills_the_upper_left_normalised(shape: tuple[int, int], filled: tuple[int, int]) -> None:
    color = np.array([10, 200, 90], np.uint8)
    image, found = fit(np.broadcast_to(color, (*shape, 3)).copy(), 64)
    columns, rows = filled
    assert found == filled and image.shape == (1, 3, 64, 64)
    inside = image[0, :, :rows, :columns].reshape(3, -1)
    np.testing.assert_allclose(inside, np.repeat(((color - MEAN) / DEVIATION)[:, None], inside.shape[1], axis=1))
    assert not image[0, :, rows:].any() and not image[0, :, :, columns:].any()


@pytest.mark.parametrize("multimask", [True, False])
def test_the_backend_gives_the_masks_of_torch(
    sam: Sam, backend: SamBackend, picture: np.ndarray, multimask: bool
) -> None:
    features = backend.encode(picture)
    with torch.inference_mode():
        expected = sam.image_encoder(torch.from_numpy(fit(picture, SMALL.image_size)[0]))
    np.testing.assert_allclose(features.values, expected.numpy(), atol=1e-4)
    scale = SMALL.image_size / 160
    logits, scores = answer(sam, expected, torch.from_numpy(CLICK * scale).float(), torch.from_numpy(CLICK_LABEL))
    chosen = slice(1, None) if multimask else slice(1)
    found = backend.decode(features, CLICK, CLICK_LABEL, multimask=multimask)
    np.testing.assert_allclose(found[0], logits[:, chosen].numpy(), atol=1e-4)
    np.testing.assert_allclose(found[1], scores[:, chosen].numpy(), atol=1e-4)
    np.testing.assert_array_equal(found[0] > 0, logits[:, chosen].numpy() > 0)


def test_a_predictor_runs_on_an_imported_folder(folder: Path, backend: SamBackend, picture: np.ndarray) -> None:
    predictor = MaskPredictor.load(str(folder), "onnxruntime", threads=1)
    predictor.set_image(picture)
    masks = predictor.predict(points=CLICK[0], labels=CLICK_LABEL[0], box=np.array([10, 5, 90, 70]))
    box = np.concatenate([CLICK, [[[10, 5], [90, 70]]]], axis=1)
    expected = backend.decode(backend.encode(picture), box, np.array([[1, 2, 3]]))
    assert masks.masks.shape == (3, *picture.shape[:2])
    np.testing.assert_array_equal(masks.logits, expected[0][0])
    np.testing.assert_array_equal(masks.scores, expected[1][0])
    again = predictor.predict(points=CLICK[0], labels=CLICK_LABEL[0], mask=masks.logits[0], multimask=False)
    assert len(again.masks) == len(again.scores) == 1


def test_an_encoder_in_parts_computes_the_same(
    sam: Sam, backend: SamBackend, picture: np.ndarray, tmp_path: Path
) -> None:
    assert [part.gives for part in encoder_parts(sam.image_encoder)] == ["features"]
    half = 1 + 4 * sum(weights.numel() for weights in sam.image_encoder.parameters()) // 2
    cut = SamBackend.load(export_sam(sam, "small", tmp_path, most_bytes=half), "onnxruntime", threads=1)
    assert [engine.facts.folder.name for engine in cut.engines] == ["encoder", "encoder_2", "decoder"]
    np.testing.assert_array_equal(cut.encode(picture).values, backend.encode(picture).values)


@pytest.mark.parametrize(("name", "count"), [("sam_vit_b", 1), ("sam_vit_l", 1), ("sam_vit_h", 2)])
def test_no_part_of_an_encoder_is_too_large_for_an_onnx_file(name: str, count: int) -> None:
    with torch.device("meta"):
        encoder = Sam(PUBLISHED[name]).image_encoder
    parts = list(encoder_parts(encoder))
    blocks = [list(encoder.blocks[part.first : part.last]) for part in parts]
    assert len(parts) == count and sum(map(len, blocks)) == len(encoder.blocks)
    for part in blocks:
        assert 4 * sum(weights.numel() for block in part for weights in block.parameters()) < 1.9e9


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_norms_and_the_residual_stream_stay_fp32(folder: Path, name: str) -> None:
    facts = load_facts(folder / name)
    half = onnx.load_from_string(to_half(facts.read_onnx(), facts.keep_fp32))
    graph = onnx.shape_inference.infer_shapes(half).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    sums = [
        node
        for node in graph.node
        if node.op_type == "Add" and node.name.split("/")[-2].startswith(("blocks", "layers"))
    ]
    phases = [node for node in graph.node if node.op_type in ("Sin", "Cos")]
    assert len(norms) >= 6 and len(sums) >= 4 and len(phases) == (4 if name == "decoder" else 0)
    for node in (*norms, *sums, *phases):
        assert kinds[node.input[0]] == onnx.TensorProto.FLOAT, node.name


def test_both_engines_build_for_sm86_in_both_precisions(folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: nothing can be built here")
    for report in build_engines("SM86", folders=[folder / "encoder", folder / "decoder"]):
        assert report.ok and report.precision == report.requested and "would refuse" not in report.note, report


# --- checkpoints ---


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_is_recognised_by_its_encoder(name: str) -> None:
    with torch.device("meta"):
        assert recognise(Sam(PUBLISHED[name]).state_dict()) == name


def test_a_checkpoint_becomes_a_folder_that_runs(
    sam: Sam, backend: SamBackend, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED, "sam_small", SMALL)
    out = import_weights(saved(tmp_path, sam.state_dict()), tmp_path / "out")
    assert out == tmp_path / "out" / "sam_small"
    imported = SamBackend.load(out, backend="onnxruntime", threads=1)
    np.testing.assert_array_equal(imported.encode(picture).values, backend.encode(picture).values)


def test_every_key_that_does_not_fit_is_reported(sam: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "sam_small", SMALL)
    state = {key: value for key, value in sam.state_dict().items() if key != "mask_decoder.iou_token.weight"}
    state["image_encoder.extra"] = torch.zeros(1)
    state["image_encoder.neck.1.bias"] = torch.zeros(8)
    with pytest.raises(BadWeights) as caught:
        import_weights(saved(tmp_path, state), tmp_path / "out")
    assert "does not fit sam_small" in str(caught.value)
    assert "1 missing: mask_decoder.iou_token.weight" in str(caught.value)
    assert "1 unexpected: image_encoder.extra" in str(caught.value)
    assert "1 of another shape: image_encoder.neck.1.bias (8,) instead of (128,)" in str(caught.value)


def test_other_checkpoints_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="none of the networks sam_vit_b, sam_vit_l, sam_vit_h"):
        import_weights(saved(tmp_path, {"conv.weight": torch.zeros(3)}), tmp_path / "out")
    with pytest.raises(ValueError, match="sam_vit_b, sam_vit_l, sam_vit_h"):
        import_checkpoint(tmp_path / "x", "mobile_sam")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(BadWeights, match=r"damaged\.pth is"):
        import_weights(damaged, tmp_path / "out")


def test_a_decoder_without_its_settings_is_refused(folder: Path) -> None:
    encoder = load_engine(folder / "encoder", backend="onnxruntime", threads=1)
    with pytest.raises(BadWeights, match="lacks the settings of SAM"):
        SamBackend([encoder], encoder)
