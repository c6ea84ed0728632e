# SPDX-License-Identifier: Apache-2.0
"""Rotated sets: the index tensors of DSVT, computed in numpy before the graph (arXiv 2301.06051, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SetWindows:
    """One way of cutting the pillar grid into windows.

    size: cells of a window along x and y. shift: cells added to the coordinates before cutting.
    """

    size: tuple[int, int]
    shift: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class RotatedSets:
    """The sets of one windowing: row 0 of each tensor is sorted along y first, row 1 along x first.

    members: (2, S, tau) int64, the voxel in every slot of every set.
    duplicates: (2, S, tau) bool, slots that repeat the slot before them and must be ignored as keys.
    slots: (2, N) int64, the flattened slot (set * tau + slot) from which each voxel takes its result.
    positions: (N, 2) float32, x and y inside the window, measured in cells from the window's middle.
    """

    members: Integers
    duplicates: npt.NDArray[np.bool_]
    slots: Integers
    positions: npt.NDArray[np.float32]


def rotated_sets(cells: Integers, windows: SetWindows, set_size: int) -> RotatedSets:
    """Divide the voxels of every window into equally full sets of `set_size` (tau), once along each axis.

    cells: (N, 2) int, x and y index of each occupied pillar, each pillar once.
    """
    size = np.asarray(windows.size)
    window, inside = np.divmod(cells + np.asarray(windows.shift), size)
    x, y = inside.T
    _, window_of_voxel, voxels_in_window = np.unique(
        window[:, 0] * (window[:, 1].max(initial=0) + 1) + window[:, 1], return_inverse=True, return_counts=True
    )
    set_window, rank = _slots_of_windows(voxels_in_window, set_size)
    first_in_window = np.cumsum(voxels_in_window) - voxels_in_window
    sorted_positions = first_in_window[set_window][:, None] + rank

    along_y = np.argsort(window_of_voxel * size.prod() + y * size[0] + x)
    along_x = np.argsort(window_of_voxel * size.prod() + x * size[1] + y)
    members = np.stack([along_y[sorted_positions], along_x[sorted_positions]])
    positions = (inside - size / 2).astype(np.float32)
    return RotatedSets(members, _repeats(members), _first_slots(members, len(cells)), positions)


def _slots_of_windows(voxels_in_window: Integers, set_size: int) -> tuple[Integers, Integers]:
    """Window of every set (S,) and, for every slot (S, tau), the rank of its voxel inside that window.

    A window of n voxels gets ceil(n / tau) sets; its slot i of all takes the voxel of rank floor(i * n / slots), which
    spreads the unavoidable duplicates evenly (equation 3 of the paper).
    """
    sets_in_window = -(-voxels_in_window // set_size)
    set_window = np.repeat(np.arange(len(sets_in_window)), sets_in_window)
    first_set = np.cumsum(sets_in_window) - sets_in_window
    set_in_window = np.arange(len(set_window)) - first_set[set_window]
    slot_in_window = set_in_window[:, None] * set_size + np.arange(set_size)
    rank = slot_in_window * voxels_in_window[set_window][:, None] // (sets_in_window[set_window][:, None] * set_size)
    return set_window, rank


def _repeats(members: Integers) -> npt.NDArray[np.bool_]:
    repeats = np.zeros(members.shape, dtype=bool)
    repeats[..., 1:] = members[..., 1:] == members[..., :-1]
    return repeats


def _first_slots(members: Integers, voxels: int) -> Integers:
    """A voxel may sit in two neighbouring sets; its result is read from its first slot, as in the reference model."""
    slots = np.empty((2, voxels), dtype=np.int64)
    numbers = np.arange(members[0].size)
    for axis in range(2):
        # Assignment keeps the last of several values for one index, so go through the slots backwards.
        slots[axis, members[axis].ravel()[::-1]] = numbers[::-1]
    return slots
