# SPDX-License-Identifier: Apache-2.0
"""How far depth is from the truth (Eigen et al., "Depth Map Prediction from a Single Image", NIPS 2014, section 4.2):
as it is, after one scale for a whole sequence, and after one for each image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.robust import weighted_median

Floats = NDArray[np.floating]
WITHIN = 1.25  # ratio of found to true depth, either way, up to which a pixel counts as right
Pair = tuple[Floats, Floats]  # found and true depth (N,), both above 0, m, of the pixels of an image that are judged


def judged(found: Floats, truth: Floats, mask: NDArray[np.bool_]) -> Pair:
    """Found and true depth of the pixels within a mask where both are above 0; all (H, W)."""
    both = mask & (found > 0) & (truth > 0) & np.isfinite(found)
    return found[both], truth[both]


def best_scale(found: Floats, truth: Floats) -> float:
    """The factor at which the mean of |factor * found - truth| / truth is least: a weighted median of truth / found.

    For depth that is the same everywhere this gives the best constant.
    """
    return weighted_median(truth / found, found / truth)


def depth_errors(found: Floats, truth: Floats) -> dict[str, float]:
    """abs_rel: mean of |found - truth| / truth; delta: share within a ratio of 1.25; rmse_log: root mean square of the
    difference of logarithms. Of no pixel: none."""
    if not len(truth):
        return {}
    ratio = found / truth
    return {
        "abs_rel": float(np.abs(ratio - 1).mean()),
        "delta": float((np.maximum(ratio, 1 / ratio) < WITHIN).mean()),
        "rmse_log": float(np.sqrt(np.mean(np.log(ratio) ** 2))),
    }


def depth_figures(pairs: Sequence[Pair]) -> dict[str, float]:
    """`depth_errors` of all pixels of a sequence, with endings that say what was given: `_metric` nothing, none one
    scale for all images, `_image` one for each; and `scale`, the one for all."""
    some = [(found.astype(np.float64), truth.astype(np.float64)) for found, truth in pairs if len(truth)]
    if not some:
        return {}
    found, truth = (np.concatenate(parts) for parts in zip(*some, strict=True))
    scale = best_scale(found, truth)
    each = np.concatenate([best_scale(one, true) * one for one, true in some])
    given = {"": scale * found, "_metric": found, "_image": each}
    errors = {name + ending: value for ending, one in given.items() for name, value in depth_errors(one, truth).items()}
    return {**errors, "scale": scale}
