# SPDX-License-Identifier: Apache-2.0
"""What the registration network sees of a cloud: three levels of its points and who neighbours whom, made in numpy.

Points are thinned twice by voxel grids: to nodes, and to at most `MAX_SUPER` super-points. All geometry goes in as
numbers that no rigid motion changes: distances, and angles between normals and the lines that join points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from perception_models.registration.preprocess import Cloud

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Tensors = dict[str, npt.NDArray[np.generic]]

MAX_POINTS, MAX_NODES, MAX_SUPER = 16384, 4096, 256
NODE_CELL, SUPER_CELL = 2.5, 10.0  # voxels; larger where a cloud would exceed the capacities above
GROW = 1.15
GATHERED, AROUND, POOLED, SPREAD, DECODED = 12, 12, 16, 4, 6  # neighbours: see `node_tensors`
ANGLED = 3  # neighbours that give a super-point its angles to the others (GeoTransformer, section 3.2)
LEAST_POINTS = 8


@dataclass(frozen=True)
class Nodes:
    """Rows of the points (N, 3) that stand for a voxel each: `nodes` (M,) of the points, `super_points` (S,) of the
    nodes."""

    nodes: Ints
    super_points: Ints


def pair_tensors(source: Cloud, target: Cloud) -> Tensors:
    """The network's input tensors of both clouds, named "source_..." and "target_..."."""
    sides = {"source": cloud_tensors(source), "target": cloud_tensors(target)}
    return {f"{side}_{name}": value for side, tensors in sides.items() for name, value in tensors.items()}


def cloud_tensors(cloud: Cloud) -> Tensors:
    """The network's input tensors of one cloud; see `node_tensors`.

    Raises ValueError for fewer points than LEAST_POINTS or more than MAX_POINTS.
    """
    if not LEAST_POINTS <= len(cloud) <= MAX_POINTS:
        raise ValueError(f"a cloud of {len(cloud)} points; the network takes {LEAST_POINTS} to {MAX_POINTS}")
    return node_tensors(cloud, choose_nodes(cloud.points, cloud.settings.voxel))


def choose_nodes(points: Floats, voxel: float) -> Nodes:
    """Thin points (N, 3) to nodes and those to super-points."""
    nodes = _representatives(points, NODE_CELL * voxel, MAX_NODES)
    return Nodes(nodes, _representatives(points[nodes], SUPER_CELL * voxel, MAX_SUPER))


def node_tensors(cloud: Cloud, chosen: Nodes) -> Tensors:
    """Features (N, F) and, for each step of the network, neighbours (Q, K) int64 with their geometry (Q, K, 4):
    points -> nodes ("gather"), among nodes ("around"), nodes -> super-points ("pool"), super-points -> nodes
    ("spread"), nodes -> points ("decode"); of the super-points distances (S, S) in cells, angles (S, S, 3) in radians,
    features (S, F) pooled over their surroundings, and a mask (S,), 1 where there is one."""
    unit = cloud.settings.voxel
    points, normals = cloud.points, cloud.normals
    node_points, node_normals = points[chosen.nodes], normals[chosen.nodes]
    super_points, super_normals = node_points[chosen.super_points], node_normals[chosen.super_points]
    levels = {
        "gather": (node_points, node_normals, points, normals, GATHERED, 2.0),
        "around": (node_points, node_normals, node_points, node_normals, AROUND, 5.0),
        "pool": (super_points, super_normals, node_points, node_normals, POOLED, 5.0),
        "spread": (node_points, node_normals, super_points, super_normals, SPREAD, 10.0),
        "decode": (points, normals, node_points, node_normals, DECODED, 5.0),
    }
    tensors: Tensors = {"features": cloud.features, "nodes": chosen.nodes, "super_points": chosen.super_points}
    for name, (queries, query_normals, keys, key_normals, count, scale) in levels.items():
        neighbours = _nearest(queries, keys, count)
        tensors[f"{name}_neighbours"] = neighbours
        tensors[f"{name}_geometry"] = _pair_features(
            queries, query_normals, keys[neighbours], key_normals[neighbours], scale * unit
        )
    surroundings = tensors["gather_neighbours"][tensors["pool_neighbours"]].reshape(len(super_points), -1)
    tensors["pooled_features"] = cloud.features[surroundings].mean(axis=1)
    tensors["distances"] = _distances(super_points) / np.float32(SUPER_CELL * unit)
    tensors["angles"] = _angles(super_points)
    tensors["mask"] = np.ones(len(super_points), np.float32)
    return tensors


def _representatives(points: Floats, cell: float, most: int) -> Ints:
    """Rows of the points nearest to the means of occupied cells; cells grow until there are at most `most`."""
    while True:
        keys = np.floor(points / cell).astype(np.int64)
        keys -= keys.min(axis=0)
        extent = keys.max(axis=0) + 1
        _, voxel, counts = np.unique(
            (keys[:, 0] * extent[1] + keys[:, 1]) * extent[2] + keys[:, 2], return_inverse=True, return_counts=True
        )
        if len(counts) <= most:
            break
        cell *= GROW
    mean = np.stack([np.bincount(voxel, points[:, axis]) for axis in range(3)], axis=1) / counts[:, None]
    offset = np.sum((points - mean[voxel]) ** 2, axis=1)
    order = np.lexsort((offset, voxel))  # within each voxel, the nearest to the mean first
    return np.asarray(order[np.concatenate([[0], np.cumsum(counts)[:-1]])], np.int64)


def _nearest(queries: Floats, keys: Floats, count: int) -> Ints:
    """Rows (Q, count) of the nearest keys, nearest first; repeated where there are fewer keys."""
    _, rows = cKDTree(keys).query(queries, k=min(count, len(keys)), workers=-1)
    return np.asarray(np.resize(rows.reshape(len(queries), -1).T, (count, len(queries))).T, np.int64)


def _pair_features(points: Floats, normals: Floats, others: Floats, other_normals: Floats, scale: float) -> Floats:
    """Point-pair features (Q, K, 4) (Drost et al., CVPR 2010): distance over `scale`, cosines of the angles between
    the joining line and both normals, and between the normals."""
    offset = others - points[:, None]
    distance = np.sqrt(np.einsum("qki,qki->qk", offset, offset))
    direction = offset / np.maximum(distance, 1e-9)[..., None]
    own = np.einsum("qi,qki->qk", normals, direction)
    other = np.einsum("qki,qki->qk", other_normals, direction)
    between = np.einsum("qi,qki->qk", normals, other_normals)
    return np.stack([distance / np.float32(scale), own, other, between], axis=-1).astype(np.float32)


def _distances(points: Floats) -> Floats:
    """Distances (S, S) between points (S, 3)."""
    offset = points[:, None] - points[None]
    return np.asarray(np.sqrt(np.einsum("sti,sti->st", offset, offset)), np.float32)


def _angles(points: Floats) -> Floats:
    """Angles (S, S, ANGLED) in radians at point s between point t and each of the points nearest to s."""
    near = points[_nearest(points, points, ANGLED + 1)[:, 1:]] - points[:, None]  # (S, A, 3)
    line = points[None] - points[:, None]
    dot = np.einsum("sti,sai->sta", line, near)
    lengths = np.linalg.norm(line, axis=-1)[..., None] * np.linalg.norm(near, axis=-1)[:, None]
    return np.asarray(np.arccos(np.clip(dot / np.maximum(lengths, 1e-9), -1, 1)), np.float32)


def pad_pair(tensors: Tensors) -> Tensors:
    """Pair tensors with every axis at its capacity: padded rows point at row 0, padded super-points are masked."""
    return {name: _pad(name.split("_", 1)[1], value) for name, value in tensors.items()}


def _pad(name: str, value: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    shape = list(value.shape)
    for axis, length in enumerate(_capacities(name)):
        shape[axis] = length
    padded = np.zeros(shape, value.dtype)
    padded[tuple(slice(length) for length in value.shape)] = value
    return padded


def _capacities(name: str) -> tuple[int, ...]:
    """Capacities of the leading axes of one cloud's tensor."""
    if name in ("distances", "angles"):
        return (MAX_SUPER, MAX_SUPER)
    if name in ("nodes", "around_neighbours", "around_geometry") or name.startswith(("gather", "spread")):
        return (MAX_NODES,)
    if name.startswith(("features", "decode")):
        return (MAX_POINTS,)
    return (MAX_SUPER,)
