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

    score: float | tuple[float, ...] = 0.5
    nms_iou: float | tuple[float, ...] | None = None


def select_boxes(
    heatmap: Floats, box: Floats, iou: Floats, settings: DetectionSettings, thresholds: Thresholds
) -> tuple[Floats, Floats, Ints]:
    """heatmap (C, H, W), box (10, H, W), iou (H, W) -> boxes (K, 7), scores (K,), labels (K,), highest score first."""
    heat_power, iou_power, lowest = (
        np.broadcast_to(np.asarray(value, np.float32), len(heatmap))
        for value in (settings.heat_power, settings.iou_power, thresholds.score)
    )
    overlap = np.broadcast_to(settings.nms_iou if thresholds.nms_iou is None else thresholds.nms_iou, len(heatmap))
    labels, rows, columns = _peaks(heatmap, np.asarray(lowest ** (1 / heat_power), np.float32))
    scores = heatmap[labels, rows, columns] ** heat_power[labels] * iou[rows, columns] ** iou_power[labels]
    enough = scores >= lowest[labels]
    labels, rows, columns, scores = labels[enough], rows[enough], columns[enough], scores[enough]
    best = np.argsort(-scores, kind="stable")[:CANDIDATES]
    labels, rows, columns, scores = labels[best], rows[best], columns[best], scores[best]
    boxes = decode(box[:, rows, columns].T, cell_centres(rows, columns, settings), settings)
    kept = _suppress(boxes, scores, labels, overlap)
    return boxes[kept], scores[kept], labels[kept]


def _peaks(heatmap: Floats, floor: Floats) -> tuple[Ints, Ints, Ints]:
    """Class, row and column of the cells not below their class's floor (C,) and not below their eight neighbours.

    The floor comes first: as no IoU is above one, a cell below it cannot reach the score, and hardly any is left.
    """
    labels, rows, columns = np.nonzero(heatmap >= floor[:, None, None])
    padded = np.pad(heatmap, ((0, 0), (1, 1), (1, 1)))
    around = np.max([padded[labels, rows + k, columns + m] for k in range(3) for m in range(3)], axis=0, initial=0)
    peak = heatmap[labels, rows, columns] >= around
    return labels[peak], rows[peak], columns[peak]


def _suppress(boxes: Floats, scores: Floats, labels: Ints, overlap: npt.NDArray[np.floating]) -> Ints:
    """Suppression within each class; the result keeps the order of falling scores."""
    kept = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        kept.append(of_class[nms_bev(boxes[of_class], scores[of_class], float(overlap[label]), CANDIDATES)])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
