# SPDX-License-Identifier: Apache-2.0
"""Masks of everything in an image: a grid of clicks, masks that are sure and stable, without doubles (Kirillov et al.,
ICCV 2023, section B)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from perception_models.segmentation.predictor import MaskPredictor

Floats = NDArray[np.float32]
OFFSET = 1.0  # of the logits, up and down, between which a stable mask hardly changes
SMALLEST = 20  # pixels of the logits
LARGEST = 0.9  # of the image


def all_masks(
    predictor: MaskPredictor,
    per_side: int,
    width: int,
    height: int,
    min_score: float,
    min_stability: float,
    overlap: float,
) -> list[tuple[Floats, float]]:
    """Logits (h, w) and scores of the masks, best first; see `MaskPredictor.everything`."""
    if per_side < 1:
        raise ValueError(f"per_side is {per_side}, expected at least 1")
    x, y = np.meshgrid(*((np.arange(per_side) + 0.5) / per_side * length - 0.5 for length in (width, height)))
    points = np.stack([x, y], -1).reshape(-1, 1, 2).astype(np.float32)
    many = predictor.predict_many(points, np.ones(points.shape[:2], np.int64))
    logits, scores = many.logits.reshape(-1, *many.logits.shape[2:]), many.scores.ravel()
    area = (logits > 0).sum((1, 2))
    fits = (area >= SMALLEST) & (area <= LARGEST * logits[0].size)
    good = np.flatnonzero((scores >= min_score) & (stability(logits) >= min_stability) & fits)
    kept = distinct(logits[good] > 0, scores[good], overlap)
    return [(logits[index], float(scores[index])) for index in good[kept]]


def stability(logits: Floats) -> Floats:
    """IoU (N,) of each mask (N, h, w) at a higher and a lower threshold."""
    inner, outer = (logits > OFFSET).sum((1, 2)), (logits > -OFFSET).sum((1, 2))
    return np.asarray(inner / np.maximum(outer, 1), np.float32)


def distinct(masks: NDArray[np.bool_], scores: Floats, overlap: float) -> NDArray[np.int64]:
    """Which masks (N, h, w) stay, best first, when none may overlap a better one by more than an IoU."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    area = flat.sum(1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        both = flat[kept] @ flat[index]
        if np.all(both / np.maximum(area[kept] + area[index] - both, 1) <= overlap):
            kept.append(int(index))
    return np.array(kept, np.int64)
