# SPDX-License-Identifier: Apache-2.0
"""The compact network: attention against a loop, masks, batches, ONNX against torch, and a short run of the recipe."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from perception_models.detection.box_coding import encode
from perception_models.detection.data import collate, join_inputs, make_sample, turn_and_mirror
from perception_models.detection.export import export, load_checkpoint
from perception_models.detection.flatformer import FlatFormerEncoder, GroupAttention
from perception_models.detection.losses import aligned_iou, focal_loss
from perception_models.detection.network import INPUTS, CompactDetector, DeployedDetector
from perception_models.detection.pillar_attention import PointToPillarAttention
from perception_models.detection.pipeline import Detector
from perception_models.detection.postprocess import Thresholds, select_boxes
from perception_models.detection.preprocess import MASKED, prepare
from perception_models.detection.settings import DetectionSettings
from perception_models.detection.train import Recipe, train
from perception_models.geometry.boxes import iou_3d, points_in_boxes
from perception_models.geometry.pillars import PillarGrid
from perception_models.simulation.drive import simulate_drive

SMALL = DetectionSettings(grid=PillarGrid(extent=12.8), max_pillars=2048, max_tokens=1024)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def frame():  # type: ignore[no-untyped-def]
    return next(simulate_drive(seed=3, seconds=0.1))


def test_group_attention_equals_softmax_attention_over_the_real_keys() -> None:
    attention = GroupAttention(8, heads=2)
    x, position = torch.randn(3, 6, 8), torch.randn(3, 6, 8)
    bias = torch.zeros(3, 1, 1, 6)
    bias[..., 4:] = MASKED
    found = attention(x, position, bias)
    w, b = attention.in_proj_weight, attention.in_proj_bias
    q, k = ((x + position) @ w[s : s + 8].T + b[s : s + 8] for s in (0, 8))
    v = x @ w[16:].T + b[16:]
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        scores = q[..., h] @ k[:, :4, h].transpose(1, 2) / 2
        heads.append(torch.softmax(scores, -1) @ v[:, :4, h])
    assert torch.allclose(found, attention.out_proj(torch.cat(heads, -1)), atol=1e-5)


def test_padding_tokens_do_not_change_the_real_ones() -> None:
    encoder = FlatFormerEncoder(16, 2, 32, blocks=1, group=8, window=4).eval()
    orders = torch.arange(16).repeat(4, 1)
    bias = torch.where(torch.arange(16) < 11, 0.0, MASKED)
    x = torch.randn(16, 16)
    other = x.clone()
    other[11:] = 5
    first, second = (encoder(value, orders, orders, torch.zeros_like(orders), bias)[:11] for value in (x, other))
    assert torch.allclose(first, second, atol=1e-6)


def test_pillar_attention_ignores_empty_slots_and_the_order_of_points() -> None:
    layer = PointToPillarAttention(5, 16, heads=2)
    points, code = torch.randn(4, 6, 5), torch.randn(4, 16)
    bias = torch.zeros(4, 6)
    bias[:, 4:] = MASKED
    points[:, 4:] = 0
    noisy = points.clone()
    noisy[:, 4:] = 3
    shuffled = points[:, [2, 0, 3, 1, 4, 5]]
    expected = layer(points, bias, code)
    assert torch.allclose(layer(noisy, bias, code), expected, atol=1e-5)
    assert torch.allclose(layer(shuffled, bias, code), expected, atol=1e-5)


@pytest.mark.parametrize("attention", [True, False])
def test_a_batch_gives_each_scan_what_it_gets_alone(attention: bool) -> None:
    rng = np.random.default_rng(0)
    scans = [rng.uniform([-12, -12, -2, 0], [12, 12, 1, 1], (n, 4)).astype(np.float32) for n in (3000, 500)]
    tensors = [prepare(scan, SMALL).tensors for scan in scans]
    network = CompactDetector(SMALL, attention=attention).eval()
    with torch.inference_mode():
        joined = network(**{k: torch.from_numpy(v) for k, v in join_inputs(tensors).items()}, batch=2)
        for k, alone in enumerate(tensors):
            single = network(**{name: torch.from_numpy(value) for name, value in alone.items()})
            for map_joined, map_single in zip(joined, single, strict=True):
                assert torch.allclose(map_joined[k], map_single[0], atol=1e-4)


def test_points_stay_in_their_boxes_when_a_frame_is_turned(frame) -> None:  # type: ignore[no-untyped-def]
    before = points_in_boxes(frame.points, frame.boxes).sum(axis=0)
    points, boxes = turn_and_mirror(frame.points, frame.boxes, np.random.default_rng(4))
    after = points_in_boxes(points, boxes).sum(axis=0)
    assert before.sum() > 100 and np.abs(after - before).max() <= 2


def test_aligned_iou_equals_the_exact_one_for_equal_yaw() -> None:
    rng = np.random.default_rng(2)
    boxes = rng.uniform([-1, -1, -1, 3, 1, 1, -3], [1, 1, 0, 5, 2, 2, 3], (50, 7)).astype(np.float32)
    other = boxes + rng.normal(0, 0.3, boxes.shape).astype(np.float32) * np.array([1, 1, 1, 1, 1, 1, 0], np.float32)
    centres = np.zeros((50, 2), np.float32)
    codes = [torch.from_numpy(encode(b, centres, SMALL)) for b in (other, boxes)]
    assert np.allclose(aligned_iou(codes[0], codes[1], SMALL), np.diagonal(iou_3d(other, boxes)), atol=1e-4)


def test_focal_loss_is_silent_where_nothing_is_learnt_and_small_when_right() -> None:
    heat = torch.zeros(1, 1, 4, 4)
    heat[0, 0, 1, 1] = 1
    right = torch.where(heat == 1, 8.0, -8.0)
    learn = torch.ones(1, 4, 4)
    assert focal_loss(right, heat, learn) < 1e-3 < focal_loss(-right, heat, learn)
    assert focal_loss(-right, heat, 0 * learn) == 0


def test_select_boxes_keeps_the_peak_and_suppresses_its_neighbour() -> None:
    size = SMALL.grid.size // SMALL.stride
    heatmap, box, iou = (
        np.full((3, size, size), 1e-3, np.float32),
        np.zeros((10, size, size), np.float32),
        np.ones((size, size)),
    )
    box[3:6] = np.log([4.0, 2.0, 1.5])[:, None, None]
    box[7] = box[9] = 1
    heatmap[0, 10, 10], heatmap[0, 10, 12], heatmap[1, 30, 30] = 0.81, 0.64, 0.49
    boxes, scores, labels = select_boxes(heatmap, box, iou.astype(np.float32), SMALL, Thresholds(0.3, 0.2))
    assert labels.tolist() == [0, 1] and np.allclose(scores, [0.9, 0.7])
    assert np.allclose(boxes[0], [-12.8 + 10.5 * 0.64, -12.8 + 10.5 * 0.64, 0, 4, 2, 1.5, 0], atol=1e-5)


def test_export_equals_torch_and_runs_as_a_detector(tmp_path: Path, frame) -> None:  # type: ignore[no-untyped-def]
    network = CompactDetector(SMALL).eval()
    export(network, tmp_path, "tiny")
    tensors = prepare(frame.points, SMALL).tensors
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {name: tensors[name] for name in INPUTS})
    with torch.inference_mode():
        expected = DeployedDetector(network)(*(torch.from_numpy(tensors[name]) for name in INPUTS))
    for a, b in zip(found, expected, strict=True):
        assert np.allclose(a, b.numpy(), atol=1e-4)
    detections = Detector.load(str(tmp_path), score_threshold=0.01).detect(frame.points)
    assert detections.boxes.shape == (len(detections.scores), 7) and (np.diff(detections.scores) <= 0).all()


def test_a_short_run_of_the_recipe_learns_is_resumable_and_exports(tmp_path: Path) -> None:
    recipe = Recipe(minutes=0.15, workers=0, warm_up=5)
    checkpoint = train(recipe, tmp_path, SMALL)
    steps = torch.load(checkpoint, weights_only=True)["step"]
    assert steps > 3
    train(Recipe(minutes=0.2, workers=0, warm_up=5), tmp_path, SMALL)
    assert torch.load(checkpoint, weights_only=True)["step"] > steps
    export(load_checkpoint(checkpoint), tmp_path / "weights")


def test_the_network_can_fit_one_scene(frame) -> None:  # type: ignore[no-untyped-def]
    """Any mistake between targets, losses and decoding shows here: after some steps on one scene its vehicles are
    found."""
    from perception_models.detection.train import Trainer

    sample = make_sample(frame, np.random.default_rng(0), SMALL)
    batch = collate([sample], SMALL)
    trainer = Trainer(Recipe(warm_up=1, learning_rate=3e-3, average=0.0), SMALL)
    for _ in range(150):
        trainer.train_step(batch)
    with torch.inference_mode():
        heatmap, box, iou = trainer.network.eval()(**batch.inputs)
    boxes, _, _ = select_boxes(
        torch.sigmoid(heatmap[0]).numpy(), box[0].numpy(), torch.sigmoid(iou[0, 0]).numpy(), SMALL, Thresholds(0.3)
    )
    truth = np.unique(batch.boxes, axis=0)
    assert len(truth) > 0 and (iou_3d(boxes, truth).max(axis=0) > 0.5).mean() > 0.8
