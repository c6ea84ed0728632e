# SPDX-License-Identifier: Apache-2.0
"""DSVT's rotated sets against a slow reference that goes through windows, sets and slots one by one."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.detection.dsvt_sets import Integers, SetWindows, rotated_sets

WINDOWS = [SetWindows((12, 12)), SetWindows((24, 24), (6, 6)), SetWindows((5, 7), (2, 3))]


def random_cells(seed: int, count: int, side: int = 40) -> Integers:
    chosen = np.random.default_rng(seed).choice(side * side, size=count, replace=False)
    return np.stack([chosen % side, chosen // side], axis=1)


def slow_sets(
    cells: Integers, windows: SetWindows, set_size: int, axis: int
) -> tuple[list[list[int]], list[list[bool]]]:
    """The definition word by word; axis 0 sorts by y then x, axis 1 by x then y."""
    of_window: dict[tuple[int, int], list[int]] = {}
    for voxel, (x, y) in enumerate(cells + np.array(windows.shift)):
        of_window.setdefault((x // windows.size[0], y // windows.size[1]), []).append(voxel)
    sets, masks = [], []
    for window in sorted(of_window):
        voxels = sorted(of_window[window], key=lambda v: (cells[v, 1 - axis], cells[v, axis]))
        count = -(-len(voxels) // set_size)
        for j in range(count):
            members = [voxels[((j * set_size + k) * len(voxels)) // (count * set_size)] for k in range(set_size)]
            sets.append(members)
            masks.append([k > 0 and members[k] == members[k - 1] for k in range(set_size)])
    return sets, masks


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize(("count", "set_size"), [(1, 4), (7, 36), (300, 9), (1500, 36)])
def test_sets_and_masks_equal_the_slow_reference(windows: SetWindows, count: int, set_size: int) -> None:
    cells = random_cells(count, count)
    sets = rotated_sets(cells, windows, set_size)
    for axis in range(2):
        members, masks = slow_sets(cells, windows, set_size, axis)
        assert sets.members[axis].tolist() == members
        assert sets.duplicates[axis].tolist() == masks


@pytest.mark.parametrize("windows", WINDOWS)
def test_every_voxel_reads_its_own_first_slot(windows: SetWindows) -> None:
    cells = random_cells(3, 900)
    sets = rotated_sets(cells, windows, 36)
    for axis in range(2):
        flat = sets.members[axis].ravel().tolist()
        assert sets.slots[axis].tolist() == [flat.index(voxel) for voxel in range(len(cells))]
        assert not sets.duplicates[axis].ravel()[sets.slots[axis]].any()


@pytest.mark.parametrize("windows", WINDOWS)
def test_sets_stay_inside_one_window_and_are_equally_full(windows: SetWindows) -> None:
    cells = random_cells(4, 1100)
    sets = rotated_sets(cells, windows, 20)
    window = (cells + windows.shift) // windows.size
    for members in sets.members.reshape(-1, 20):
        assert (window[members] == window[members[0]]).all()
        assert np.ptp(np.unique(members, return_counts=True)[1]) <= 1


def test_positions_are_measured_from_the_middle_of_the_window() -> None:
    sets = rotated_sets(np.array([[0, 0], [17, 5]]), SetWindows((24, 24), (6, 6)), 36)
    assert sets.positions.tolist() == [[-6.0, -6.0], [11.0, -1.0]]


def test_the_order_of_the_voxels_does_not_change_the_sets() -> None:
    cells = random_cells(5, 700)
    shuffle = np.random.default_rng(0).permutation(700)
    straight = rotated_sets(cells, WINDOWS[0], 36)
    shuffled = rotated_sets(cells[shuffle], WINDOWS[0], 36)
    assert np.array_equal(shuffle[shuffled.members], straight.members)
