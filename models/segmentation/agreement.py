# SPDX-License-Identifier: Apache-2.0
"""How far the masks of one view agree that two super-points are one thing."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from perception_models.geometry.cameras import Floats


class ManyMasks(Protocol):
    """Masks of B prompts: logits (B, M, h, w) float32, scores (B, M) predicted IoU, image pixels a logit pixel."""

    @property
    def logits(self) -> Floats: ...
    @property
    def scores(self) -> Floats: ...
    @property
    def stride(self) -> float: ...


def shares(masks: ManyMasks, image: npt.NDArray[np.int32], names: npt.NDArray[np.int64], stride: int) -> Floats:
    """Share (B, M, V) of the pixels of super-points `names` (V,) that each mask holds; image (h, w): super-point of
    every `stride`-th pixel of the view, -1 for none. Each name has a pixel."""
    number = np.full(max(image.max(), names.max()) + 2, -1)
    number[names] = np.arange(len(names))
    row, column = np.nonzero(number[image] >= 0)
    owner = number[image[row, column]]
    size = np.bincount(owner, minlength=len(names))
    order = np.argsort(owner, kind="stable")
    places = np.column_stack([row, column])[order] + 0.5
    y, x = np.minimum(places * stride / masks.stride, np.array(masks.logits.shape[2:]) - 1).astype(np.int64).T
    held = masks.logits[:, :, y, x] > 0
    counts = np.add.reduceat(held, np.cumsum(size) - size, axis=2, dtype=np.int32)
    return np.asarray(counts / size, np.float32)


def agreements(held: Floats, scores: Floats) -> Floats:
    """Agreement (V, V), 0 to 1, of masks with predicted IoU (B, M), of which each holds shares (B, M, V) of
    super-points: the cosine between what all masks hold of one and of the other.

    Every mask of the view has its say about every pair, whoever asked for it, and all three of a prompt. The paper
    takes the share of the smaller of two masks; there one mask of a thing and what it stands on joins them for good.
    """
    votes = (held * scores[..., None]).reshape(-1, held.shape[2])
    common = votes.T @ votes
    length = np.sqrt(np.maximum(np.diagonal(common), 1e-9))
    return np.asarray(common / (length[:, None] * length), np.float32)
