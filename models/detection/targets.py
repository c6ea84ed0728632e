# SPDX-License-Identifier: Apache-2.0
"""Training targets of the centre head: heat maps, where to learn nothing, and the cells that regress each box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.detection.box_coding import cell_centres, encode
from perception_models.detection.settings import DetectionSettings

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
MIN_POINTS = 4  # objects seen by fewer points are neither learnt nor punished
POSITIVE_HEAT = 0.35


@dataclass(frozen=True)
class Targets:
    """heatmap (classes, H, W); learn (H, W) is 0 where nothing is learnt; the M regressing cells: flat index row * W +
    column,
    code (M, 10), weight (M,), box (M, 7)."""

    heatmap: Floats
    learn: Floats
    cells: Ints
    codes: Floats
    weights: Floats
    boxes: Floats


def draw_targets(boxes: Floats, labels: Ints, num_points: Ints, settings: DetectionSettings) -> Targets:
    """Targets of one frame with boxes (K, 7), labels (K,) and visible points (K,)."""
    size = settings.grid.size // settings.stride
    heatmap = np.zeros((len(settings.classes), size, size), np.float32)
    learn = np.ones((size, size), np.float32)
    inside = np.abs(boxes[:, :2]).max(axis=1, initial=0) < settings.grid.extent - 1
    positives: list[tuple[Ints, Floats, Floats, Floats]] = []
    for box, label, count in zip(boxes[inside], labels[inside], num_points[inside], strict=True):
        rows, columns, heat = _patch(box, size, settings)
        if count < MIN_POINTS:
            learn[rows, columns] = np.where(heat > 0.1, 0, learn[rows, columns])
            continue
        heatmap[label, rows, columns] = np.maximum(heatmap[label, rows, columns], heat)
        chosen = heat > POSITIVE_HEAT
        rows, columns, heat = rows[chosen], columns[chosen], heat[chosen]
        repeated = np.repeat(box[None], len(rows), axis=0)
        code = encode(repeated, cell_centres(rows, columns, settings), settings)
        positives.append((rows * size + columns, code, heat / heat.sum(), repeated))
    learn = np.maximum(learn, (heatmap.max(axis=0) > POSITIVE_HEAT).astype(np.float32))
    return Targets(heatmap, learn, *_join(positives))


def _patch(box: Floats, size: int, settings: DetectionSettings) -> tuple[Ints, Ints, Floats]:
    """Cells around a box and their heat: a Gaussian as long and wide as the box suggests, exactly 1 at the nearest
    cell."""
    side = settings.grid.cell * settings.stride
    centre = np.floor((box[:2] + settings.grid.extent) / side).astype(np.int64)
    reach = int(np.ceil(max(box[3], 1.5) / 2 / side)) + 1
    columns, rows = np.meshgrid(*(np.arange(max(c - reach, 0), min(c + reach + 1, size)) for c in centre))
    rows, columns = rows.ravel(), columns.ravel()
    offset = cell_centres(rows, columns, settings) - box[:2]
    cos, sin = np.cos(box[6]), np.sin(box[6])
    along = (offset[:, 0] * cos + offset[:, 1] * sin) / max(box[3] / 8, 0.4)
    across = (offset[:, 1] * cos - offset[:, 0] * sin) / max(box[4] / 6, 0.36)
    heat = np.exp(-(along**2 + across**2) / 2)
    heat /= max(heat.max(), 1e-6)
    return rows, columns, heat.astype(np.float32)


def _join(positives: list[tuple[Ints, Floats, Floats, Floats]]) -> tuple[Ints, Floats, Floats, Floats]:
    if not positives:
        return (
            np.zeros(0, np.int64),
            np.zeros((0, 10), np.float32),
            np.zeros(0, np.float32),
            np.zeros((0, 7), np.float32),
        )
    cells, codes, weights, boxes = (np.concatenate(parts) for parts in zip(*positives, strict=True))
    return cells, codes, weights, boxes
