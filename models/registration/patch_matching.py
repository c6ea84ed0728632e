# SPDX-License-Identifier: Apache-2.0
"""From matched super-points to matched points: optimal transport with a dustbin within each pair of patches.

GeoTransformer (CVPR 2022, section 3.3); the dustbin as in SuperGlue (CVPR 2020, section 3.2). A patch is the points
that are nearest to a super-point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.special import logsumexp

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
NOTHING = -1e4  # score of what is padding

PATCH_POINTS = 64
PATCH_PAIRS = 128
CONFIDENCE = 0.05
MUTUAL = 3
ITERATIONS = 20


@dataclass(frozen=True)
class PatchMatches:
    """Matched points: rows (L,) of the source and of the target, confidence (L,), and the pair of patches (L,) that
    each match belongs to."""

    source: Ints
    target: Ints
    confidence: Floats
    patch: Ints


def match_super_points(source: Floats, target: Floats, count: int = PATCH_PAIRS) -> tuple[Ints, Ints]:
    """The `count` best pairs of unit descriptors (S, L), (T, L) by dual-normalised exp(-distance^2) -> rows of both."""
    score = np.exp(2 * source @ target.T - 2)
    score = score**2 / (score.sum(1, keepdims=True) * score.sum(0))
    best = np.argsort(score, axis=None)[::-1][:count]
    rows, columns = np.unravel_index(best, score.shape)
    return rows.astype(np.int64), columns.astype(np.int64)


def patches(points: Floats, super_points: Floats, size: int = PATCH_POINTS) -> Ints:
    """Rows (S, size) of the points (N, 3) nearest to each super-point (S, 3), nearest first; -1 where a patch
    has fewer."""
    distance, owner = cKDTree(super_points).query(points)
    order = np.lexsort((distance, owner))
    starts = np.searchsorted(owner[order], np.arange(len(super_points)))
    place = np.arange(len(points)) - starts[owner[order]]
    rows = np.full((len(super_points), size), -1, np.int64)
    fits = place < size
    rows[owner[order][fits], place[fits]] = order[fits]
    return rows


def match_patches(
    source: Floats,
    target: Floats,
    source_patches: Ints,
    target_patches: Ints,
    dustbin: float,
    mutual: int = MUTUAL,
    iterations: int = ITERATIONS,
) -> PatchMatches:
    """Match the points of K pairs of patches (K, P), (K, P) by descriptors (N, F), (M, F) whose dot product is a score;
    `dustbin` is the score of having no partner. A match is among the `mutual` best of both of its points."""
    scores = np.einsum("kif,kjf->kij", source[source_patches], target[target_patches])
    scores[~((source_patches >= 0)[:, :, None] & (target_patches >= 0)[:, None])] = NOTHING
    confidence = np.exp(transport_with_dustbin(scores, dustbin, iterations))
    keep = _mutual_best(confidence, mutual) & (confidence > CONFIDENCE)
    keep &= (source_patches >= 0)[:, :, None] & (target_patches >= 0)[:, None]
    pair, i, j = np.nonzero(keep)
    return PatchMatches(source_patches[pair, i], target_patches[pair, j], confidence[pair, i, j], pair)


def transport_with_dustbin(scores: Floats, dustbin: float, iterations: int = ITERATIONS) -> Floats:
    """Log-coupling (K, P, R) of scores (K, P, R): each point gives its mass 1 to partners or to the dustbin, which
    takes all that is left."""
    pairs, height, width = scores.shape
    full = np.full((pairs, height + 1, width + 1), dustbin, np.float32)
    full[:, :-1, :-1] = scores
    row_mass = np.log(np.r_[np.ones(height), width]).astype(np.float32)[None, :, None]
    column_mass = np.log(np.r_[np.ones(width), height]).astype(np.float32)[None, None]
    for _ in range(iterations):
        full += row_mass - logsumexp(full, axis=2, keepdims=True)
        full += column_mass - logsumexp(full, axis=1, keepdims=True)
    return full[:, :-1, :-1]


def _mutual_best(confidence: Floats, mutual: int) -> npt.NDArray[np.bool_]:
    """Where a partner is among the `mutual` best of both (K, P, R)."""
    best = min(mutual, *confidence.shape[1:])
    by_row = confidence >= np.partition(confidence, -best, axis=2)[:, :, -best, None]
    by_column = confidence >= np.partition(confidence, -best, axis=1)[:, None, -best]
    return np.asarray(by_row & by_column)
