# SPDX-License-Identifier: Apache-2.0
"""What one view says of super-points: whether masks agree that two are one thing, and what the encoder sees in them.

After SAM-guided Graph Cut (Guo et al., ECCV 2024), section 3.2, with another measure of agreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from perception_models.geometry.cameras import Floats, RgbdFrame
from perception_models.segmentation.agreement import ManyMasks, agreements, shares
from perception_models.segmentation.prompts import Prompts, choose_prompts, label_image
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.visibility import Projection, visible

Labels = npt.NDArray[np.int32]


class Predictor(Protocol):
    """What is asked of a promptable 2D model."""

    def set_image(self, rgb: npt.NDArray[np.uint8], depth: Floats | None = None) -> None: ...
    def predict_many(self, points: Floats, labels: Labels) -> ManyMasks: ...
    def features_at(self, pixels: Floats) -> Floats: ...


@dataclass(frozen=True)
class Evidence:
    """Super-points (V,) that a view shows with features (V, C); of pairs (E, 2) of them, near each other in space, how
    far masks agree that they are one thing (E,), 0 to 1, and how much that weighs (E,)."""

    superpoints: npt.NDArray[np.int64]
    features: Floats
    pairs: npt.NDArray[np.int64]
    agreement: Floats
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
    most = settings.max_prompts
    masks = predictor.predict_many(prompts.points[:most], prompts.labels[:most])
    agreement = agreements(shares(masks, image, prompts.superpoints, settings.stride), masks.scores)
    number = np.full(labels.max() + 1, -1)
    number[prompts.superpoints] = np.arange(len(prompts))
    owner = number[labels[projection.rows]]
    pairs = near_pairs(points[projection.rows[owner >= 0]], owner[owner >= 0], len(prompts), settings.near)
    one, other = pairs.T
    shown = np.sqrt(np.bincount(image[image >= 0])[prompts.superpoints]).astype(np.float32)
    weight = np.minimum(shown[one], shown[other])
    features = _features(prompts, predictor)
    return Evidence(prompts.superpoints, features, prompts.superpoints[pairs], agreement[one, other], weight)


def nothing() -> Evidence:
    """What a view says that shows no super-point."""
    empty = np.zeros(0, np.float32)
    pairs = np.zeros((0, 2), np.int64)
    return Evidence(np.zeros(0, np.int64), np.zeros((0, 0), np.float32), pairs, empty, empty)


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
