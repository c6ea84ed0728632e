# SPDX-License-Identifier: Apache-2.0
"""Correspondences between two clouds from descriptors alone, ranked by dual softmax (Sun et al., LoFTR, CVPR 2021).

A pair is as likely as its points choose each other among all others, so what looks the same everywhere ranks low. The
same code serves hand-made and learned descriptors: their dot product is the logit of a match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

FAINT = np.float32(1e-30)  # a sum of likelihoods below: the best partner is hopeless, and the division would overflow


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
) -> Correspondences:
    """The `count` likeliest pairs of descriptors (N, F), (M, F), at most one a source point.

    The priors (N,), (M,) are log-probabilities that a point has a partner at all.
    """
    if not len(source) or not len(target):
        return Correspondences(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32))
    likelihood = source @ target.T
    likelihood -= likelihood.max()
    np.exp(likelihood, out=likelihood)
    of_row = 1 / (likelihood.sum(axis=1) + FAINT)
    of_column = 1 / (likelihood.sum(axis=0) + FAINT)
    weight = np.sqrt(of_column) if target_prior is None else np.sqrt(of_column * np.exp(target_prior))
    likelihood *= weight  # the square root of the probability, but for the row's own factor
    partner = likelihood.argmax(axis=1)
    best = likelihood[np.arange(len(source)), partner]
    scores = 2 * np.log(best + FAINT) + np.log(of_row)
    scores = scores if source_prior is None else scores + source_prior
    order = np.argsort(-scores, kind="stable")[:count]
    return Correspondences(order, partner[order], scores[order].astype(np.float32))
