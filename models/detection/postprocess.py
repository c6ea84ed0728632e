# SPDX-License-Identifier: Apache-2.0
"""From the head's maps to boxes: local peaks, decoding, rotated non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.detection.box_coding import cell_centres, decode
from perception_models.detection.settings import DetectionSettings
from perception_models.geometry.nms import nms_bev

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
CANDIDATES = 300


@dataclass(frozen=True)
class Thresholds:
    """Run-time tuning, one value or one a class: the lowest score kept, and the overlap from which the lower score
    goes.

    No nms_iou: the model's own.
    """

    score: float | tuple[float, ...] = 0.3
    nms_iou: float | tuple[float, ...] | None = None


def select_boxes(
    heatmap: Floats, box: Floats, iou: Floats, settings: DetectionSettings, thresholds: Thresholds
) -> tuple[Floats, Floats, Ints]:
    """heatmap (C, H, W), box (10, H, W), iou (H, W) -> boxes (K, 7), scores (K,), labels (K,), highest score first."""
    heat_power, iou_power = (
        np.asarray(power, np.float32)[:, None, None] for power in (settings.heat_power, settings.iou_power)
    )
    score_map = heatmap**heat_power * iou[None] ** iou_power
    lowest = np.broadcast_to(np.asarray(thresholds.score, np.float32), len(heatmap))
    overlap = np.broadcast_to(settings.nms_iou if thresholds.nms_iou is None else thresholds.nms_iou, len(heatmap))
    labels, rows, columns = np.nonzero(_is_peak(heatmap) & (score_map >= lowest[:, None, None]))
    scores = score_map[labels, rows, columns]
    best = np.argsort(-scores, kind="stable")[:CANDIDATES]
    labels, rows, columns, scores = labels[best], rows[best], columns[best], scores[best]
    boxes = decode(box[:, rows, columns].T, cell_centres(rows, columns, settings), settings)
    kept = _suppress(boxes, scores, labels, overlap)
    return boxes[kept], scores[kept], labels[kept]


def _is_peak(heatmap: Floats) -> npt.NDArray[np.bool_]:
    """Cells not lower than their eight neighbours in their class's map."""
    padded = np.pad(heatmap, ((0, 0), (1, 1), (1, 1)))
    height, width = heatmap.shape[1:]
    across = np.maximum.reduce([padded[:, :, k : k + width] for k in range(3)])
    around = np.maximum.reduce([across[:, k : k + height] for k in range(3)])
    return np.asarray(heatmap >= around)


def _suppress(boxes: Floats, scores: Floats, labels: Ints, overlap: npt.NDArray[np.floating]) -> Ints:
    """Suppression within each class; the result keeps the order of falling scores."""
    kept = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        kept.append(of_class[nms_bev(boxes[of_class], scores[of_class], float(overlap[label]), CANDIDATES)])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
