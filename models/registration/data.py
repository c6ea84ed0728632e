# SPDX-License-Identifier: Apache-2.0
"""Training pairs from simulated scenes: network inputs of both clouds, sampled points, and what truly corresponds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from perception_models.geometry import se3
from perception_models.registration.network_input import Tensors, choose_nodes, node_tensors
from perception_models.registration.preprocess import Cloud
from perception_models.registration.scenes import OVERLAP, Scene

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

QUERIES = 1024  # points of either cloud that a training step decodes
LEAST_SHARED = 60  # points that must have a partner


@dataclass
class Pair:
    """Inputs of both clouds; rows (Q,), (R,) of the decoded points; positive (Q, R) where two are the same surface;
    matchable (Q,), (R,) where the other cloud has the surface at all; overlaps (S, T) of super-points' surroundings."""

    source: dict[str, Tensor]
    target: dict[str, Tensor]
    rows: tuple[Tensor, Tensor]
    positive: Tensor
    matchable: tuple[Tensor, Tensor]
    overlaps: Tensor


class PairStream(IterableDataset[Pair]):
    """Endless training pairs from the scenes in a folder, which may still be growing; waits for the first."""

    def __init__(self, folder: Path, seed: int, most: float = 0.9, least: float = 0.1) -> None:
        self.folder, self.seed = folder, seed
        self.least, self.most = least, most

    def __iter__(self) -> Iterator[Pair]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            scene = Scene.load(self._choose(rng))
            for _ in range(4):  # opening a scene costs more than making a pair of it
                pair = sample_pair(scene, rng, self.least, self.most)
                if pair is not None:
                    yield pair

    def _choose(self, rng: Rng) -> Path:
        while not (paths := sorted(path for path in self.folder.glob("*.npz") if ".tmp" not in path.name)):
            time.sleep(1.0)
        return paths[rng.integers(len(paths))]


def sample_pair(scene: Scene, rng: Rng, least: float = 0.1, most: float = 0.9) -> Pair | None:
    """A pair of a scene whose overlap is between `least` and `most`, low ones as often as high ones; None where there
    is none, or where thinning left too little of the overlap."""
    overlap = (scene.overlaps + scene.overlaps.T) / 2
    wanted = rng.uniform(least, most)
    fits = np.argwhere((overlap > least) & (overlap < most) & ~np.eye(len(overlap), dtype=bool))
    if not len(fits):
        return None
    i, j = fits[np.argmin(np.abs(overlap[tuple(fits.T)] - wanted) + rng.uniform(0, 0.1, len(fits)))]
    transform = se3.inverse(scene.poses[j]) @ scene.poses[i]
    return make_pair(_thinned(scene.clouds[i], rng), _thinned(scene.clouds[j], rng), transform, rng)


def _thinned(cloud: Cloud, rng: Rng) -> Cloud:
    """The cloud without up to a fifth of its points, and now and then without one side of it."""
    keep = rng.random(len(cloud)) > rng.uniform(0, 0.2)
    if rng.random() < 0.3:
        side = cloud.points @ rng.normal(size=3)
        keep &= side > np.quantile(side, rng.uniform(0, 0.4))
    return Cloud(cloud.points[keep], cloud.normals[keep], cloud.features[keep], cloud.settings)


def make_pair(source: Cloud, target: Cloud, transform: se3.Matrix, rng: Rng) -> Pair | None:
    """Training pair of two clouds whose true transform source -> target (4, 4) is known; None where fewer than
    LEAST_SHARED points have a partner."""
    reach = OVERLAP * source.settings.voxel
    moved = se3.apply(transform, source.points)
    distance, partner = target.tree.query(moved)
    shared = distance < reach
    if shared.sum() < LEAST_SHARED:
        return None
    back, _ = cKDTree(moved).query(target.points, distance_upper_bound=reach)
    seen = np.isfinite(back)
    first = _draw_rows(np.flatnonzero(shared), len(source), rng)
    second = _draw_rows(np.unique(partner[first][shared[first]]), len(target), rng)
    near = ((moved[first][:, None] - target.points[second]) ** 2).sum(-1) < reach**2
    tensors, nodes = zip(*(_turned_tensors(cloud, rng) for cloud in (source, target)), strict=True)
    links = np.stack([np.flatnonzero(shared), partner[shared]])
    overlaps = _super_overlaps(source, target, nodes, links)
    inputs = [{name: torch.from_numpy(value) for name, value in side.items()} for side in tensors]
    return Pair(
        inputs[0],
        inputs[1],
        rows=(torch.from_numpy(first), torch.from_numpy(second)),
        positive=torch.from_numpy(near),
        matchable=(torch.from_numpy(shared[first]), torch.from_numpy(seen[second])),
        overlaps=torch.from_numpy(overlaps),
    )


def _draw_rows(wanted: Ints, count: int, rng: Rng) -> Ints:
    """Rows of up to QUERIES points: up to half of them from the wanted ones, the rest from all."""
    half = rng.permutation(wanted)[: QUERIES // 2]
    rest = np.setdiff1d(np.arange(count), half)
    return np.concatenate([half, rng.permutation(rest)[: QUERIES - len(half)]]).astype(np.int64)


def _turned_tensors(cloud: Cloud, rng: Rng) -> tuple[Tensors, Ints]:
    """Network input, and the points (S,) that are its super-points. The grid that chooses nodes stands at random: it
    alone knows directions, everything else in the input is invariant."""
    turn = Rotation.random(random_state=rng).as_matrix().astype(np.float32)
    chosen = choose_nodes(cloud.points @ turn, cloud.settings.voxel)
    return node_tensors(cloud, chosen), chosen.nodes[chosen.super_points]


def _super_overlaps(source: Cloud, target: Cloud, nodes: tuple[Ints, ...], links: Ints) -> Floats:
    """Share (S, T) of the points around super-point s of the source whose partner is around t, averaged with the share
    the other way. A point is around its nearest super-point. links (2, L): points that correspond."""
    owners = [cKDTree(c.points[rows]).query(c.points)[1] for c, rows in zip((source, target), nodes, strict=True)]
    sizes = [np.bincount(owner, minlength=len(rows)) for owner, rows in zip(owners, nodes, strict=True)]
    counts = np.zeros((len(nodes[0]), len(nodes[1])), np.float32)
    np.add.at(counts, (owners[0][links[0]], owners[1][links[1]]), 1)
    share = (counts / np.maximum(sizes[0], 1)[:, None] + counts / np.maximum(sizes[1], 1)) / 2
    return np.minimum(share, 1).astype(np.float32)


def pairs(folder: Path, seed: int, workers: int) -> Iterator[Pair]:
    """Endless training pairs made by `workers` processes (0: in this one)."""
    loader: DataLoader[Pair] = DataLoader(
        PairStream(folder, seed),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
    )
    yield from loader
