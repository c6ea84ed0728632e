# SPDX-License-Identifier: Apache-2.0
"""Detection metrics against a slow reference that follows the written rules one object at a time."""

import numpy as np
import pytest

from perception_models.evaluation.detection import EvaluationSettings, evaluate_detections
from perception_models.evaluation.latency import LatencyLog
from perception_models.evaluation.matching import FrameResult
from perception_models.geometry.boxes import iou_3d, iou_bev

SIZES = np.array([[4.2, 1.8, 1.6], [0.7, 0.6, 1.7], [1.8, 0.7, 1.7]])
IOU = {"bev": iou_bev, "3d": iou_3d}


def random_frame(rng: np.random.Generator, noise: float = 0.25) -> FrameResult:
    """True objects up to 70 m away; detections near most of them, some twice, and some from nothing."""
    count = int(rng.integers(3, 9))
    labels = rng.integers(0, 3, count)
    place, yaw = rng.uniform(-45, 45, (count, 2)), rng.uniform(-3, 3, count)
    truth = np.column_stack([place, rng.uniform(-1.2, -0.8, count), SIZES[labels], yaw])
    source = rng.integers(0, count, count + 2)
    found = truth[source] + rng.normal(0, noise, (len(source), 7)) * [1, 1, 0.4, 0.5, 0.3, 0.3, 0.3]
    invented = np.column_stack([rng.uniform(-45, 45, (3, 2)), -np.ones(3), SIZES[[0, 1, 2]], np.zeros(3)])
    boxes = np.concatenate([found, invented])
    boxes[:, 3:6] = np.abs(boxes[:, 3:6])
    return FrameResult(
        boxes=boxes,
        scores=np.round(rng.random(len(boxes)), 2),
        labels=np.concatenate([labels[source], [0, 1, 2]]),
        truth_boxes=truth,
        truth_labels=labels,
        truth_points=rng.integers(0, 30, count),
        covered=rng.random(len(boxes)) < 0.8,
        truth_covered=rng.random(count) < 0.9,
    )


def distance(box: np.ndarray) -> float:
    return float(np.sqrt(box[0] ** 2 + box[1] ** 2))


def slow_judge(
    frame: FrameResult, label: int, kind: str, threshold: float, near: float, far: float
) -> tuple[list, int]:
    """(score, hit) of each detection judged, and the number of objects that count."""
    good = {
        j
        for j in range(len(frame.truth_boxes))
        if frame.truth_labels[j] == label and frame.truth_points[j] >= 5 and frame.truth_covered[j]
    }
    counting = {j for j in good if near <= distance(frame.truth_boxes[j]) < far}
    taken: set[int] = set()
    judged = []
    for i in sorted((i for i in range(len(frame.boxes)) if frame.labels[i] == label), key=lambda i: -frame.scores[i]):
        free = [j for j in range(len(frame.truth_boxes)) if frame.truth_labels[j] == label and j not in taken]
        shared = {j: IOU[kind](frame.boxes[i : i + 1], frame.truth_boxes[j : j + 1])[0, 0] for j in free}
        enough = [j for j in free if shared[j] >= threshold]
        if enough:
            partner = max(enough, key=lambda j: (j in good, shared[j]))
            taken.add(partner)
            if partner in counting:
                judged.append((frame.scores[i], True))
        elif frame.covered[i] and near <= distance(frame.boxes[i]) < far:
            judged.append((frame.scores[i], False))
    return judged, len(counting)


def slow_average_precision(judged: list, objects: int) -> float:
    points = []
    for score in sorted({score for score, _ in judged}):
        above = [hit for other, hit in judged if other >= score]
        points.append((sum(above) / objects, sum(above) / len(above)))
    wanted = [step / 40 for step in range(1, 41)]
    best = [max([p for r, p in points if r >= recall - 1e-9], default=0.0) for recall in wanted]
    return 100 * sum(best) / 40


def test_every_average_precision_equals_the_slow_reference() -> None:
    rng = np.random.default_rng(5)
    frames = [random_frame(rng) for _ in range(25)]
    values = evaluate_detections(frames, settings=EvaluationSettings(max_range=50)).values
    keys = 0
    for label, (name, thresholds) in enumerate(EvaluationSettings().overlaps.items()):
        for kind in IOU:
            for threshold in thresholds:
                for near, far, suffix in [(0, 50, ""), (0, 20, "_0_20m"), (20, 40, "_20_40m"), (40, 60, "_40_60m")]:
                    parts = [slow_judge(frame, label, kind, threshold, near, far) for frame in frames]
                    judged = [one for part, _ in parts for one in part]
                    expected = slow_average_precision(judged, sum(count for _, count in parts))
                    assert values[f"{name}_ap_{kind}_{threshold * 100:.0f}{suffix}"] == pytest.approx(expected)
                    keys += 1
    assert keys == 48
    assert 5 < values["vehicle_ap_bev_50"] < 95


def test_the_working_point_is_the_highest_score_with_the_recall_wanted() -> None:
    rng = np.random.default_rng(6)
    frames = [random_frame(rng, noise=0.02) for _ in range(40)]
    for wanted in (0.5, 1.0):
        metrics = evaluate_detections(frames, settings=EvaluationSettings(recall=wanted))
        parts = [slow_judge(frame, 0, "bev", 0.5, 0, 50) for frame in frames]
        judged, objects = [one for part, _ in parts for one in part], sum(count for _, count in parts)
        highest = sum(hit for _, hit in judged) / objects
        goal = min(wanted, highest) - 1e-9
        score = max(s for s, _ in judged if sum(hit for other, hit in judged if other >= s) / objects >= goal)
        above = [hit for other, hit in judged if other >= score]
        values = metrics.values
        assert values["vehicle_working_score"] == score
        assert values["vehicle_highest_recall"] == pytest.approx(100 * highest)
        assert values["vehicle_working_recall"] == pytest.approx(100 * sum(above) / objects)
        assert values["vehicle_working_precision"] == pytest.approx(100 * sum(above) / len(above))
        assert values["vehicle_false_per_frame"] == pytest.approx((len(above) - sum(above)) / len(frames))


def test_outcomes_are_taken_where_f1_is_best() -> None:
    rng = np.random.default_rng(7)
    frames = [random_frame(rng, noise=0.1) for _ in range(40)]
    metrics = evaluate_detections(frames)
    parts = [slow_judge(frame, 0, "bev", 0.5, 0, 50) for frame in frames]
    judged, objects = [one for part, _ in parts for one in part], sum(count for _, count in parts)

    def f1(score: float) -> float:
        above = [hit for other, hit in judged if other >= score]
        return 2 * sum(above) / (len(above) + objects)

    best = max({score for score, _ in judged}, key=lambda score: (round(f1(score), 12), score))
    assert metrics.values["vehicle_best_f1_score"] == best
    hits = sum(hit for score, hit in judged if score >= best)
    pairs = list(zip(frames, metrics.outcomes, strict=True))
    assert sum(frame.labels[i] == 0 for frame, one in pairs for i in one.hits) == hits
    assert sum(frame.truth_labels[i] == 0 for frame, one in pairs for i in one.found) == hits
    assert sum(frame.truth_labels[i] == 0 for frame, one in pairs for i in one.missed) == objects - hits


def one_frame(**changes: object) -> FrameResult:
    """One car 10 m ahead, found."""
    car = np.array([[10.0, 0, -1, 4, 2, 1.5, 0]])
    found = {"boxes": car, "scores": np.array([0.9]), "labels": np.array([0])}
    truth = {"truth_boxes": car, "truth_labels": np.array([0])}
    return FrameResult(**{**found, **truth, **changes})  # type: ignore[arg-type]


def test_perfect_detections_score_100_and_none_score_0() -> None:
    perfect = evaluate_detections([one_frame()] * 3).values
    assert perfect["vehicle_ap_3d_70"] == perfect["vehicle_ap_bev_50_0_20m"] == perfect["vehicle_working_recall"] == 100
    assert perfect["vehicle_false_per_frame"] == 0
    assert "pedestrian_ap_bev_25" not in perfect and perfect["pedestrian_objects"] == 0
    nothing = {"boxes": np.zeros((0, 7)), "scores": np.zeros(0), "labels": np.zeros(0, int)}
    blind = evaluate_detections([one_frame(**nothing)])
    assert blind.values["vehicle_ap_bev_50"] == blind.values["vehicle_highest_recall"] == 0
    assert blind.outcomes[0].missed == [0]


def test_objects_with_few_points_are_neither_missed_nor_false_when_found() -> None:
    few = np.array([4])
    assert "vehicle_ap_bev_50" not in evaluate_detections([one_frame(truth_points=few)]).values
    frames = [one_frame(), one_frame(truth_points=few)]
    metrics = evaluate_detections(frames)
    assert metrics.values["vehicle_ap_bev_50"] == 100 and metrics.values["vehicle_false_per_frame"] == 0
    assert [outcome.errors for outcome in metrics.outcomes] == [0, 0]


def test_detections_where_the_truth_is_silent_are_not_false() -> None:
    wrong = one_frame().boxes + np.array([0, 9, 0, 0, 0, 0, 0])
    boxes = np.concatenate([one_frame().boxes, wrong])
    both = {"boxes": boxes, "scores": np.array([0.5, 0.9]), "labels": np.zeros(2, int)}
    judged = evaluate_detections([one_frame(**both)]).values
    silent = evaluate_detections([one_frame(**both, covered=np.array([True, False]))]).values
    assert judged["vehicle_working_precision"] == 50 and judged["vehicle_false_per_frame"] == 1
    assert silent["vehicle_working_precision"] == 100 and silent["vehicle_false_per_frame"] == 0


def test_intervals_need_two_blocks_and_vanish_where_all_blocks_agree() -> None:
    assert evaluate_detections([one_frame()] * 10).intervals == {}
    assert evaluate_detections([one_frame()] * 45).intervals["vehicle_ap_bev_50"] == 0
    nothing = {"boxes": np.zeros((0, 7)), "scores": np.zeros(0), "labels": np.zeros(0, int)}
    mixed = [one_frame()] * 60 + [one_frame(**nothing)] * 60
    interval = evaluate_detections(mixed).intervals["vehicle_ap_bev_50"]
    # Half of 8 blocks are blind: the share found in a draw has a standard deviation of 1 / (2 sqrt 8) = 17.7 %.
    assert 25 < interval < 45


def test_latencies_are_summed_to_a_total_and_given_as_percentiles() -> None:
    log = LatencyLog()
    for value in range(101):
        log.add({"inference": float(value), "postprocess": 1.0})
    summary = log.summary()
    assert summary["latency_inference_p50_ms"] == 50 and summary["latency_inference_p95_ms"] == 95
    assert summary["latency_total_p99_ms"] == 100 and summary["latency_total_max_ms"] == 101
