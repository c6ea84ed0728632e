# SPDX-License-Identifier: Apache-2.0
"""What one view says of super-points: whose masks overlap, and what the encoder sees in them.

SAM-guided Graph Cut (Guo et al., ECCV 2024), section 3.2: two super-points are one thing as far as the mask that one of
them prompts is the other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from perception_models.geometry.cameras import Floats, RgbdFrame
from perception_models.segmentation.prompts import Prompts, choose_prompts, label_image
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.visibility import Projection, visible

Labels = npt.NDArray[np.int32]


class ManyMasks(Protocol):
    """Masks of B prompts: logits (B, M, h, w) float32, scores (B, M) predicted IoU, image pixels a logit pixel."""

    @property
    def logits(self) -> Floats: ...
    @property
    def scores(self) -> Floats: ...
    @property
    def stride(self) -> float: ...


class Predictor(Protocol):
    """What is asked of a promptable 2D model."""

    def set_image(self, rgb: npt.NDArray[np.uint8], depth: Floats | None = None) -> None: ...
    def predict_many(self, points: Floats, labels: Labels) -> ManyMasks: ...
    def features_at(self, pixels: Floats) -> Floats: ...


@dataclass(frozen=True)
class Evidence:
    """Super-points (V,) that a view shows with features (V, C); of pairs (E, 2) of them, near each other in space, how
    much their masks overlap (E,), 0 to 1, and how much that weighs (E,)."""

    superpoints: npt.NDArray[np.int64]
    features: Floats
    pairs: npt.NDArray[np.int64]
    overlap: Floats
    weight: Floats


def look(
    frame: RgbdFrame,
    points: Floats,
    labels: Labels,
    predictor: Predictor,
    settings: SegmentationSettings,
    projection: Projection | None = None,
) -> Evidence:
    """Ask the predictor for the thing around every super-point (N,) of a cloud (N, 3), world, that a frame shows.

    projection: that of `visible`, where it is known. Raises ValueError where the frame has no depth or no pose.
    """
    projection = projection or visible(points, frame, settings)
    image = label_image(projection, labels, frame, settings)
    prompts = choose_prompts(image, settings)
    if not len(prompts):
        return nothing()
    predictor.set_image(frame.rgb, frame.depth)
    masks, quality = best_masks(predictor.predict_many(prompts.points, prompts.labels), settings)
    features = _features(prompts, predictor)
    number = np.full(labels.max() + 1, -1)
    number[prompts.superpoints] = np.arange(len(prompts))
    owner = number[labels[projection.rows]]
    pairs = near_pairs(points[projection.rows[owner >= 0]], owner[owner >= 0], len(prompts), settings.near)
    pairs = pairs[(quality[pairs] >= settings.min_quality).all(axis=1)]
    apart = np.linalg.norm(prompts.centres[pairs[:, 0]] - prompts.centres[pairs[:, 1]], axis=1)
    weight = quality[pairs].prod(axis=1) * apart / np.hypot(*frame.rgb.shape[:2])
    overlap = overlaps(masks, pairs)
    return Evidence(prompts.superpoints, features, prompts.superpoints[pairs], overlap, weight.astype(np.float32))


def nothing() -> Evidence:
    """What a view says that shows no super-point."""
    empty = np.zeros(0, np.float32)
    pairs = np.zeros((0, 2), np.int64)
    return Evidence(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), pairs, empty, empty)


def best_masks(many: ManyMasks, settings: SegmentationSettings) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Of each prompt's masks one (B, h, w) with its predicted IoU (B,): the largest of those that are about as good as
    the best, for super-points are parts and the whole is asked for."""
    masks = many.logits > 0
    area = masks.sum(axis=(2, 3))
    good = many.scores > many.scores.max(axis=1, keepdims=True) - settings.best_margin
    chosen = np.where(good, area, -1).argmax(axis=1)
    each = np.arange(len(chosen))
    return masks[each, chosen], many.scores[each, chosen]


def overlaps(masks: npt.NDArray[np.bool_], pairs: npt.NDArray[np.int64]) -> Floats:
    """Intersection over union (E,) of pairs (E, 2) of masks (V, h, w); 0 where both are empty.

    The paper takes the share of the smaller mask. There one mask that holds a thing and what it stands on joins them
    for good; on two simulated rooms that was 21.5 AP50 in place of 28.7.
    """
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    area = flat.sum(axis=1)
    common = (flat @ flat.T)[pairs[:, 0], pairs[:, 1]]
    return np.asarray(common / np.maximum(area[pairs].sum(axis=1) - common, 1), np.float32)


def near_pairs(points: Floats, owner: npt.NDArray[np.integer], count: int, near: float) -> npt.NDArray[np.int64]:
    """Pairs (E, 2), lower first, of `count` groups of points (N, 3) whose upright boxes are within `near` m."""
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, owner, points)
    np.maximum.at(high, owner, points)
    gaps = np.maximum(low[:, None] - high, low - high[:, None]).clip(0)
    return np.argwhere(np.triu((gaps**2).sum(axis=2) < near**2, 1))


def _features(prompts: Prompts, predictor: Predictor) -> Floats:
    """The encoder's features (V, C) of each super-point, a mean over its prompts."""
    row, column = np.nonzero(prompts.labels == 1)
    features = predictor.features_at(prompts.points[row, column])
    sums = np.zeros((len(prompts), features.shape[1]), np.float32)
    np.add.at(sums, row, features)
    return np.asarray(sums / np.bincount(row, minlength=len(prompts))[:, None], np.float32)
