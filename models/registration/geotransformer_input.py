# SPDX-License-Identifier: Apache-2.0
"""Two clouds as the index tensors that GeoTransformer (CVPR 2022, section 3.1) takes: grids, neighbours, angles.

Both clouds follow each other in one table a stage, the target first. Row 0 is no point: it is the index of a neighbour
that is not there, so padding at the end of a table, with zeros, moves no index.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from perception_models.registration.geotransformer_settings import GeoTransformerSettings
from perception_models.registration.preprocess import checked, thin_out

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Tensors = dict[str, npt.NDArray[np.generic]]

SIDES = ("target", "source")
ANGLED = 3  # nearest super-points that angles are measured to
LEAST_SUPER = ANGLED + 1
MOST_POINTS = 30_000  # of a cloud, as published


@dataclass(frozen=True)
class Stages:
    """One cloud by stage: points (N, 3) m, neighbours (N, H), pooling (M, H) and upsampling (N,); -1: not there."""

    points: list[Floats]
    neighbours: list[Ints]
    pooling: list[Ints]
    upsampling: list[Ints]


def input_names(stages: int, fine_stage: int = 0) -> tuple[str, ...]:
    """Names of the input tensors of a network with that many stages."""
    whole = [f"{name}_{stage}" for stage in range(stages) for name in ("points", "mask", "neighbours")]
    below = [f"pooling_{stage}" for stage in range(stages - 1)]
    below += [f"upsampling_{stage}" for stage in range(fine_stage, stages - 1)]
    sides = [f"{side}_{name}" for side in SIDES for name in ("rows", "mask", "distances", "angles")]
    return (*whole, *below, *sides)


def stages_of(points: npt.NDArray[np.floating], settings: GeoTransformerSettings) -> Stages:
    """Sub-sample points (N, 3) in metres by stage and look for neighbours.

    Raises ValueError for another shape, and where the finest stage has too many, or the coarsest too few points.
    """
    levels = [thin_out(checked(points), settings.voxel)]
    for stage in range(1, settings.stages):
        levels.append(thin_out(levels[-1], settings.voxel * 2**stage))
    _check_counts(levels, settings)
    radii = [settings.radius * 2**stage for stage in range(settings.stages)]
    trees = [cKDTree(level) for level in levels]
    limits, below = settings.neighbours, range(settings.stages - 1)
    return Stages(
        levels,
        [_within(tree, level, *reach) for tree, level, *reach in zip(trees, levels, radii, limits, strict=True)],
        [_within(trees[stage], levels[stage + 1], radii[stage], limits[stage]) for stage in below],
        [np.asarray(trees[stage + 1].query(levels[stage])[1], np.int64) for stage in below],
    )


def pair_tensors(target: Stages, source: Stages) -> Tensors:
    """Both clouds as the input tensors of the network: by stage points (1+N, 3), mask (1+N, 1), neighbours (1+N, H),
    pooling (1+M, H), upsampling (1+N,); by side rows (S,) of its super-points, mask (S,), distances (S, S) m and
    angles (S, S, 3) in radians."""
    tensors: Tensors = {}
    for stage, (first, second) in enumerate(zip(target.points, source.points, strict=True)):
        tensors[f"points_{stage}"] = np.concatenate([np.zeros((1, 3), np.float32), first, second])
        tensors[f"mask_{stage}"] = np.r_[0, np.ones(len(first) + len(second))].astype(np.float32)[:, None]
        tensors[f"neighbours_{stage}"] = _join(target.neighbours[stage], source.neighbours[stage], len(first))
    for stage, (fine, coarse) in enumerate(zip(target.points[:-1], target.points[1:], strict=True)):
        tensors[f"pooling_{stage}"] = _join(target.pooling[stage], source.pooling[stage], len(fine))
        tensors[f"upsampling_{stage}"] = _join(target.upsampling[stage], source.upsampling[stage], len(coarse))
    before = 1
    for side, cloud in zip(SIDES, (target, source), strict=True):
        tensors |= _super_tensors(side, cloud.points[-1], before)
        before += len(cloud.points[-1])
    return tensors


def _check_counts(levels: list[Floats], settings: GeoTransformerSettings) -> None:
    if len(levels[0]) > MOST_POINTS:
        raise ValueError(
            f"the cloud fills {len(levels[0])} voxels of {settings.voxel} m, more than {MOST_POINTS}; crop it"
        )
    if len(levels[-1]) < LEAST_SUPER:
        size = settings.voxel * 2 ** (settings.stages - 1)
        raise ValueError(
            f"the cloud fills {len(levels[-1])} voxels of {size:g} m, fewer than {LEAST_SUPER}: too small to match"
        )


def _within(tree: cKDTree, queries: Floats, radius: float, limit: int) -> Ints:
    """Rows (Q, limit) of the nearest points within the radius, nearest first; -1 where there are fewer."""
    _, rows = tree.query(queries, k=limit, distance_upper_bound=radius)
    return np.where(rows < tree.n, rows, -1).astype(np.int64)


def _join(target: Ints, source: Ints, rows_of_target: int) -> Ints:
    """Rows of each cloud -> rows of the table of both, behind row 0."""
    moved = np.where(source >= 0, source + rows_of_target, -1)
    return np.concatenate([np.full_like(target[:1], -1), target, moved]) + 1


def _super_tensors(side: str, points: Floats, before: int) -> Tensors:
    offset = points[None] - points[:, None]  # (S, S, 3) from the first to the second
    distances = np.linalg.norm(offset, axis=-1)
    return {
        f"{side}_rows": np.arange(before, before + len(points), dtype=np.int64),
        f"{side}_mask": np.ones(len(points), np.float32),
        f"{side}_distances": distances.astype(np.float32),
        f"{side}_angles": _angles(offset, distances),
    }


def _angles(offset: Floats, distances: Floats) -> Floats:
    """Angles (S, S, ANGLED) at each point between every point and its nearest ones; 0 to itself."""
    nearest = np.argsort(distances, axis=1, kind="stable")[:, 1 : ANGLED + 1]
    near = np.take_along_axis(offset, nearest[..., None], axis=1)[:, None]  # (S, 1, A, 3)
    line = offset[:, :, None]
    angles = np.arctan2(np.linalg.norm(np.cross(near, line), axis=-1), (near * line).sum(-1))
    return np.asarray(angles, np.float32)
