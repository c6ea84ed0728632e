# SPDX-License-Identifier: Apache-2.0
"""How well two clouds fit at a transform: what of each lies on the other's surface, and what it puts into free space.

The share that fits decides little at low overlap, where wrong transforms lay floor on wall as well; that a surface of
one stands in what the other saw through tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.registration.preprocess import Cloud, spread

Floats = npt.NDArray[np.float32]
Matrices = npt.NDArray[np.float64]

SAME_SIDE = 0.7  # cosine between normals of one surface


@dataclass(frozen=True)
class Fit:
    """Of each transform (H,): overlap, the share of both clouds' points with a partner on the same surface; violation,
    the share that stands in free space of the other; closeness, overlap weighted by distance and normals."""

    overlap: Floats
    violation: Floats
    closeness: Floats
    violation_weight: float

    @property
    def score(self) -> Floats:
        """What the best transform has most of."""
        return self.closeness - np.float32(self.violation_weight) * self.violation


def fit(transforms: Matrices, source: Cloud, target: Cloud, sample: int) -> Fit:
    """Fit of `sample` points of each cloud, spread over it, at transforms (H, 4, 4) source -> target."""
    rotations = transforms[:, :3, :3].transpose(0, 2, 1)
    back = np.tile(np.eye(4), (len(transforms), 1, 1))
    back[:, :3, :3] = rotations
    back[:, :3, 3] = -np.einsum("hij,hj->hi", rotations, transforms[:, :3, 3])
    forth, home = _one_way(transforms, source, target, sample), _one_way(back, target, source, sample)
    overlap, violation, closeness = (((a + b) / 2).astype(np.float32) for a, b in zip(forth, home, strict=True))
    return Fit(overlap, violation, closeness, source.settings.violation_weight)


def _one_way(transforms: Matrices, source: Cloud, target: Cloud, sample: int) -> tuple[Floats, Floats, Floats]:
    """Overlap, violation and closeness (H,) of the source's points."""
    settings = source.settings
    chosen = spread(len(source), sample)
    rotations = transforms[:, :3, :3].transpose(0, 2, 1).astype(np.float32)
    points = source.points[chosen] @ rotations + transforms[:, None, :3, 3].astype(np.float32)
    reach = settings.tolerance * settings.voxel
    distance, partner = target.tree.query(points, distance_upper_bound=reach)
    near = np.isfinite(distance)
    normals = target.normals[np.where(near, partner, 0)]
    agreement = ((source.normals[chosen] @ rotations) * normals).sum(axis=2)
    weight = np.where(near, 1 - (distance / reach) ** 2, 0) * np.maximum(agreement, 0)
    free = ~near & target.range_image.in_front(points, settings.free_margin * settings.voxel)
    return (near & (agreement > SAME_SIDE)).mean(axis=1), free.mean(axis=1), weight.mean(axis=1)
