# SPDX-License-Identifier: Apache-2.0
"""Hypotheses from correspondences by second-order spatial compatibility (SC2-PCR, Chen et al., CVPR 2022).

Two correspondences are compatible where both clouds agree on the distance between their points, and on how the normals
stand to each other and to the line between the points. Wrong ones agree with few others, right ones with all right
ones; so two that share many compatible third ones are likely right, and each such group proposes a transform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.registration.matching import Correspondences
from perception_models.registration.preprocess import Cloud
from perception_models.registration.rigid import weighted_rigid
from perception_models.registration.settings import RegistrationSettings

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Matrices = npt.NDArray[np.float64]

POWER_ITERATIONS = 10
POLISHINGS = 3


@dataclass(frozen=True)
class MatchedPoints:
    """Corresponding points (K, 3) and their normals (K, 3) in two clouds, and the clouds' settings."""

    source: Floats
    target: Floats
    source_normals: Floats
    target_normals: Floats
    settings: RegistrationSettings

    @staticmethod
    def of(source: Cloud, target: Cloud, pairs: Correspondences) -> MatchedPoints:
        """The points of correspondences."""
        first, second = pairs.source, pairs.target
        points, normals = (source.points[first], target.points[second]), (source.normals[first], target.normals[second])
        return MatchedPoints(*points, *normals, source.settings)

    @property
    def tolerance(self) -> float:
        """How far a correspondence may be off, m."""
        return self.settings.tolerance * self.settings.voxel


def propose(matched: MatchedPoints) -> Matrices:
    """Transforms (H, 4, 4) source -> target, the one that most correspondences agree with first; none where there are
    fewer than three correspondences."""
    if len(matched.source) < 3:
        return np.empty((0, 4, 4))
    compatible = compatibility(matched)
    second_order = compatible * (compatible @ compatible)
    seeds = _spread_seeds(second_order.sum(axis=1), matched)
    groups = _groups(second_order, seeds, min(matched.settings.group, len(matched.source)))
    weights = _leading_eigenvectors(compatible[groups[:, :, None], groups[:, None, :]])
    first, second = (points[groups].astype(np.float64) for points in (matched.source, matched.target))
    transforms = weighted_rigid(first, second, weights.astype(np.float64))
    transforms = _polish(transforms, matched)
    return transforms[np.argsort(-support(transforms, matched), kind="stable")]


def compatibility(matched: MatchedPoints) -> Floats:
    """Symmetric (K, K): 1 where two correspondences fit to each other exactly, down to 0 where distances differ by the
    tolerance; 0 where an angle differs too much, on the diagonal, and for points too close to say anything."""
    lengths, other_lengths = _distances(matched.source), _distances(matched.target)
    score: Floats = np.maximum(0, 1 - ((lengths - other_lengths) / np.float32(matched.tolerance)) ** 2)
    score *= np.minimum(lengths, other_lengths) > matched.tolerance
    first, second = matched.source_normals, matched.target_normals
    score *= _close(first @ first.T, second @ second.T, matched.settings.normal_tolerance)
    leaning = _close(
        _along(matched.source, first, lengths),
        _along(matched.target, second, other_lengths),
        matched.settings.normal_tolerance,
    )
    score *= leaning & leaning.T
    return score


def support(transforms: Matrices, matched: MatchedPoints) -> Floats:
    """How many correspondences agree with each transform (H,) in distance and normal; the less, the farther off."""
    return np.asarray(_agreement(transforms, matched).sum(axis=1))


def _polish(transforms: Matrices, matched: MatchedPoints) -> Matrices:
    """Solve again with all correspondences that agree, a few times; a transform that few agree with stays."""
    source, target = matched.source.astype(np.float64), matched.target.astype(np.float64)
    everywhere = [np.broadcast_to(points, (len(transforms), *points.shape)) for points in (source, target)]
    for _ in range(POLISHINGS):
        weights = _agreement(transforms, matched).astype(np.float64)
        enough = (weights > 0).sum(axis=1) > 3
        transforms = np.where(enough[:, None, None], weighted_rigid(everywhere[0], everywhere[1], weights), transforms)
    return transforms


def _agreement(transforms: Matrices, matched: MatchedPoints) -> Floats:
    """Of each transform (H,) with each correspondence (K,): 1 where exact, down to 0 at the tolerance: (H, K)."""
    rotations, shifts = transforms[:, :3, :3].astype(np.float32), transforms[:, None, :3, 3].astype(np.float32)
    rotated = rotations.transpose(0, 2, 1)
    squared = ((matched.source @ rotated + shifts - matched.target) ** 2).sum(axis=2)
    cosine = ((matched.source_normals @ rotated) * matched.target_normals).sum(axis=2)
    closeness = np.maximum(0, 1 - squared / matched.tolerance**2)
    agreed: Floats = closeness * (cosine > np.cos(matched.settings.normal_tolerance))
    return agreed


def _distances(points: Floats) -> Floats:
    squares = np.einsum("ki,ki->k", points, points)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)))


def _along(points: Floats, normals: Floats, lengths: Floats) -> Floats:
    """Cosine (K, K) between the normal of i and the line from i to j."""
    away = normals @ points.T - np.einsum("ki,ki->k", normals, points)[:, None]
    return np.asarray(away / np.maximum(lengths, 1e-6))


def _close(cosine: Floats, other: Floats, tolerance: float) -> npt.NDArray[np.bool_]:
    """Whether two angles, given by their cosines, differ by less than the tolerance in radians."""
    difference = np.arccos(np.clip(cosine, -1, 1)) - np.arccos(np.clip(other, -1, 1))
    return np.asarray(np.abs(difference) < tolerance)


def _spread_seeds(strength: Floats, matched: MatchedPoints) -> Indices:
    """The strongest correspondences, leaving out those that are close to a stronger one in both clouds: they would
    propose the same again."""
    source, target = matched.source, matched.target
    left = np.argsort(-strength, kind="stable")
    seeds: list[int] = []
    while len(left) and len(seeds) < matched.settings.hypotheses:
        seed = left[0]
        seeds.append(int(seed))
        near = np.linalg.norm(source[left] - source[seed], axis=1) < matched.tolerance
        near &= np.linalg.norm(target[left] - target[seed], axis=1) < matched.tolerance
        near[0] = True
        left = left[~near]
    return np.array(seeds, np.intp)


def _groups(second_order: Floats, seeds: Indices, size: int) -> Indices:
    """Each seed (S,) with the correspondences that share most with it: (S, size)."""
    shared = second_order[seeds]
    shared[np.arange(len(seeds)), seeds] = np.inf
    return np.argpartition(-shared, size - 1, axis=1)[:, :size]


def _leading_eigenvectors(matrices: Floats) -> Floats:
    """Of non-negative symmetric matrices (S, G, G), by power iteration: how much each belongs to its group (S, G)."""
    vectors = np.ones((*matrices.shape[:2], 1), np.float32)
    for _ in range(POWER_ITERATIONS):
        vectors = matrices @ vectors + np.float32(0.1) * vectors  # shifted, or a group of two would swing for ever
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[..., 0]
