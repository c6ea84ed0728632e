# SPDX-License-Identifier: Apache-2.0
"""A promptable model that knows the truth: what segmentation in space makes of perfect masks is its upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, RgbdFrame

STRIDE = 4
LOGIT = 10.0


class TrueMasks(NamedTuple):
    """logits (B, 1, h, w), scores (B, 1) and image pixels a logit pixel."""

    logits: Floats
    scores: Floats
    stride: float = float(STRIDE)


class TruePredictor:
    """Answers a prompt by the instance on which most of its points lie; for frames (F) with instances (F, H, W)."""

    def __init__(self, frames: Sequence[RgbdFrame], instances: Sequence[NDArray[np.int32]]) -> None:
        self._images = [frame.rgb for frame in frames]
        self._instances = instances
        self._shown = instances[0]

    def set_image(self, rgb: NDArray[np.uint8], depth: Floats | None = None) -> None:
        """Turn to the frame of this very array. Raises StopIteration where it is none of the frames' images."""
        self._shown = next(known for image, known in zip(self._images, self._instances, strict=True) if image is rgb)

    def predict_many(self, points: Floats, labels: NDArray[np.int32]) -> TrueMasks:
        """Masks of prompts (B, K, 2) with labels (B, K), 1 where there is a point."""
        column, row = np.moveaxis(np.rint(points).astype(int), -1, 0)
        height, width = self._shown.shape
        hit = self._shown[row.clip(0, height - 1), column.clip(0, width - 1)]
        chosen = np.array([np.bincount(each[good == 1]).argmax() for each, good in zip(hit, labels, strict=True)])
        small = self._shown[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        logits = np.where(small == chosen[:, None, None], LOGIT, -LOGIT).astype(np.float32)
        return TrueMasks(logits[:, None], np.ones((len(points), 1), np.float32))

    def features_at(self, pixels: Floats) -> Floats:
        """Nothing is seen but masks: zeros (N, 1)."""
        return np.zeros((len(pixels), 1), np.float32)
