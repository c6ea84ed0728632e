# SPDX-License-Identifier: Apache-2.0
"""Correspondences between two clouds from descriptors alone, ranked by dual softmax (Sun et al., LoFTR, CVPR 2021).

A pair is as likely as its points choose each other among all others, so what looks the same everywhere ranks low. The
same code serves hand-made and learned descriptors: their dot product is the logit of a match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.registration.parallel import each

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

FAINT = np.float32(1e-30)  # a sum of likelihoods below: the best partner is hopeless, and the division would overflow
BLOCK = 256  # rows


@dataclass(frozen=True)
class Correspondences:
    """Indices (K,) into the source and into the target, and log-probabilities (K,); the likeliest first."""

    source: Indices
    target: Indices
    scores: Floats

    def __len__(self) -> int:
        return len(self.source)


def match(
    source: Floats,
    target: Floats,
    count: int,
    source_prior: Floats | None = None,
    target_prior: Floats | None = None,
    threads: int = 1,
) -> Correspondences:
    """The `count` likeliest pairs of descriptors (N, F), (M, F), at most one a source point.

    The priors (N,), (M,) are log-probabilities that a point has a partner at all.
    """
    if not len(source) or not len(target):
        return Correspondences(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32))
    blocks = [slice(start, start + BLOCK) for start in range(0, len(source), BLOCK)]
    likelihood, of_row, of_column = _normalised(source, target, blocks, threads)
    weight = np.sqrt(of_column) if target_prior is None else np.sqrt(of_column * np.exp(target_prior))
    chosen = each(lambda block: _best(likelihood[block], weight), blocks, threads)
    partner, best = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    scores = 2 * np.log(best + FAINT) + np.log(of_row)
    scores = scores if source_prior is None else scores + source_prior
    order = np.argsort(-scores, kind="stable")[:count]
    return Correspondences(order, partner[order], scores[order].astype(np.float32))


def _normalised(source: Floats, target: Floats, blocks: Sequence[slice], threads: int) -> tuple[Floats, Floats, Floats]:
    """Likelihoods (N, M) up to a factor, and one over their sums by row (N,) and by column (M,).

    Row by row of blocks that stay in the cache: passing over the whole matrix for each step takes longer than the
    arithmetic.
    """
    highest = np.float32(np.linalg.norm(source, axis=1).max() * np.linalg.norm(target, axis=1).max())
    likelihood = np.empty((len(source), len(target)), np.float32)

    def fill(block: slice) -> tuple[Floats, Floats]:
        part = likelihood[block]
        np.matmul(source[block], target.T, out=part)
        part -= highest
        np.exp(part, out=part)
        return part.sum(axis=1), part.sum(axis=0)

    rows, columns = zip(*each(fill, blocks, threads), strict=True)
    sums = np.concatenate(rows), np.sum(columns, axis=0)
    of_row, of_column = (np.asarray(1 / (each_sum + FAINT), np.float32) for each_sum in sums)
    return likelihood, of_row, of_column


def _best(likelihood: Floats, weight: Floats) -> tuple[Indices, Floats]:
    """Of each row of likelihoods (B, M), weighted by column (M,) in place: the best column (B,) and its value (B,).

    With the weight 1 / sqrt(sum of the column) this is the root of the probability, but for the row's own factor.
    """
    likelihood *= weight
    partner = likelihood.argmax(axis=1)
    return partner, likelihood[np.arange(len(partner)), partner]
