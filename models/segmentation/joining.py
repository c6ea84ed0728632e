# SPDX-License-Identifier: Apache-2.0
"""New super-points beside those of the map: which become part of one that they touch, and which are things apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats
from perception_models.segmentation.online_settings import OnlineSettings

Integers = NDArray[np.int64]
FEWEST = 5  # voxels of a new super-point; fewer that join nothing are flying pixels
CONTACT = 0.05  # share of a new super-point's voxels that must touch the one that it joins


@dataclass(frozen=True)
class Patches:
    """Voxels by super-point: normals (N, 3), colors (N, 3) of 255, labels (N,) 0 .. count - 1."""

    normals: Floats
    colors: NDArray[np.uint8]
    labels: Integers
    count: int

    @property
    def sizes(self) -> Integers:
        """Voxels (count,) of each."""
        return np.bincount(self.labels, minlength=self.count)

    def means(self) -> tuple[Floats, Floats]:
        """Mean unit normals and mean colours (count, 3)."""
        normals, colors = (self._sums(values) for values in (self.normals, self.colors))
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        normals /= np.maximum(lengths, np.float32(1e-9))
        return normals, np.asarray(colors / np.maximum(self.sizes, 1)[:, None], np.float32)

    def _sums(self, values: NDArray[np.generic]) -> Floats:
        sums = [np.bincount(self.labels, column, self.count) for column in values.T]
        return np.stack(sums, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Joined:
    """into (new.count,): the super-point of the map that each new one becomes part of, -1 for a thing apart, -2 for
    one so small that it is none. merged (held.count,): the super-point whose part each one of the map becomes: itself,
    unless it is a fragment that a new one closes up with a larger one."""

    into: Integers
    merged: Integers


def join(new: Patches, touched: Integers, held: Patches, settings: OnlineSettings) -> Joined:
    """What becomes of new super-points beside those of the map.

    touched (N,): for each new voxel the super-point of the map that it touches, -1 for none.
    """
    into, merged = np.where(new.sizes < FEWEST, -2, -1), np.arange(held.count)
    labels, others, contacts = _contacts(new.labels, touched)
    if not len(labels):
        return Joined(into, merged)
    (normals, colors), (held_normals, held_colors) = new.means(), held.means()
    cosine = np.einsum("ij,ij->i", normals[labels], held_normals[others])
    apart = np.abs(colors[labels] - held_colors[others]).max(axis=1)
    alike = (cosine > np.cos(settings.join_angle)) & (apart < settings.join_color)
    fits = alike & (contacts >= CONTACT * new.sizes[labels]) & (held.sizes[others] < settings.join_limit)
    # By rising size of the one that is touched: the last that is written to a place is the largest.
    for row in np.flatnonzero(fits)[np.argsort(held.sizes[others[fits]], kind="stable")]:
        into[labels[row]] = others[row]
    for row in np.flatnonzero(fits & (held.sizes[others] < settings.fragment)):
        merged[others[row]] = into[labels[row]]
    return Joined(into, _roots(merged))


def _roots(parents: Integers) -> Integers:
    """The last (S,) of each chain of parents (S,), each of which is larger than its child or the child itself."""
    while not np.array_equal(parents, parents[parents]):
        parents = parents[parents]
    return parents


def _contacts(labels: Integers, touched: Integers) -> tuple[Integers, Integers, Integers]:
    """Pairs (P,) of new and held super-points that touch, and by how many voxels (P,)."""
    touches = touched >= 0
    pairs = np.column_stack([labels[touches], touched[touches]])
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], counts
