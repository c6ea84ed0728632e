# SPDX-License-Identifier: Apache-2.0
"""Local-to-global registration (GeoTransformer, CVPR 2022, section 3.4): each pair of patches proposes a transform, the
one that most matches of all patches agree with is refined with those. An alternative to sampling or consensus."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.registration.patch_matching import PatchMatches
from perception_models.registration.rigid import weighted_rigid

Floats = npt.NDArray[np.floating]
Matrix = npt.NDArray[np.float64]

LEAST = 3  # matches of a patch that proposes
REFINEMENTS = 5


def local_to_global(source: Floats, target: Floats, matches: PatchMatches, radius: float) -> tuple[Matrix, int] | None:
    """Transform (4, 4) source -> target of clouds (N, 3), (M, 3) in metres and how many matches agree with it within
    `radius`; None where no pair of patches has LEAST matches."""
    from_points, to_points = source[matches.source].astype(np.float64), target[matches.target].astype(np.float64)
    weights = matches.confidence.astype(np.float64)
    proposals = _proposals(from_points, to_points, weights, matches.patch)
    if not len(proposals):
        return None
    agreeing = [_agree(transform, from_points, to_points, radius) for transform in proposals]
    best = int(np.argmax([agree.sum() for agree in agreeing]))
    transform, agree = proposals[best], agreeing[best]
    for _ in range(REFINEMENTS):
        if agree.sum() < LEAST:
            break
        transform = weighted_rigid(from_points[None], to_points[None], (weights * agree)[None])[0]
        agree = _agree(transform, from_points, to_points, radius)
    return transform, int(agree.sum())


def _proposals(source: Matrix, target: Matrix, weights: Matrix, patch: npt.NDArray[np.int64]) -> Matrix:
    """Transforms (K, 4, 4) of the patches with enough matches, solved at once by padding with weight zero."""
    _, owner, counts = np.unique(patch, return_inverse=True, return_counts=True)
    place = np.arange(len(patch)) - np.concatenate([[0], np.cumsum(counts)])[owner]
    shape = (len(counts), int(counts.max(initial=0)))
    first, second, weight = np.zeros((*shape, 3)), np.zeros((*shape, 3)), np.zeros(shape)
    first[owner, place], second[owner, place], weight[owner, place] = source, target, weights
    enough = counts >= LEAST
    return weighted_rigid(first[enough], second[enough], weight[enough])


def _agree(transform: Matrix, source: Matrix, target: Matrix, radius: float) -> npt.NDArray[np.bool_]:
    return np.asarray(np.linalg.norm(se3.apply(transform, source) - target, axis=1) < radius)
