# SPDX-License-Identifier: Apache-2.0
"""Pillars: a point cloud sorted into the columns of a square bird's-eye grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

HEIGHT_STEPS = 256  # of the grid's height, for sorting
GHOST_BLOCK = 10  # cells along the side of a block
GHOST_SHARE = 0.05  # of a block's points may be ghosts
GHOST_DEPTH = 0.6  # m under the rest that makes a ghost


@dataclass(frozen=True)
class PillarGrid:
    """A square grid around the sensor. `extent` is half its side (m), `cell` a pillar's side (m); heights are in the
    sensor frame."""

    extent: float = 51.2
    cell: float = 0.32
    z_low: float = -5.0
    z_high: float = 3.0

    @property
    def size(self) -> int:
        """Pillars along one side."""
        return round(2 * self.extent / self.cell)

    def inside(self, points: Floats) -> npt.NDArray[np.bool_]:
        """Which of the (N, >=3) points are finite and within the grid -> (N,). NaN compares false, so it falls out
        here."""
        # Contiguous columns: each is read several times.
        x, y, z = np.ascontiguousarray(points[:, :3].T)
        near = (np.abs(x) < self.extent) & (np.abs(y) < self.extent)
        return np.asarray(near & (z > self.z_low) & (z < self.z_high))

    def cells(self, points: Floats) -> npt.NDArray[np.int32]:
        """Row-major cell index (row along y, column along x) of (N, >=3) points inside the grid -> (N,)."""
        column = ((points[:, 0] + self.extent) / self.cell).astype(np.int32)
        row = ((points[:, 1] + self.extent) / self.cell).astype(np.int32)
        last = self.size - 1
        return np.minimum(row, last) * self.size + np.minimum(column, last)

    def coordinates(self, cells: npt.NDArray[np.integer]) -> Ints:
        """Column (along x) and row (along y) of cell indices (P,) -> (P, 2)."""
        return np.stack([cells % self.size, cells // self.size], axis=1).astype(np.int64)

    def centres(self, cells: npt.NDArray[np.integer]) -> Floats:
        """Centres x, y (m) of cell indices (P,) -> (P, 2)."""
        return (self.coordinates(cells).astype(np.float32) + 0.5) * self.cell - self.extent


@dataclass(frozen=True)
class Pillars:
    """Points sorted by pillar and, within one, by height: pillar i owns points[starts[i] : starts[i] + counts[i]]."""

    points: Floats  # (N, 4) x y z intensity
    cells: Ints  # (P,)
    starts: Ints  # (P,)
    counts: Ints  # (P,)

    @property
    def lowest(self) -> Floats:
        """Height of each pillar's lowest point (P,), m."""
        return np.asarray(self.points[self.starts, 2])

    @property
    def highest(self) -> Floats:
        """Height of each pillar's highest point (P,), m."""
        return np.asarray(self.points[self.starts + self.counts - 1, 2])

    def mean(self, column: int) -> Floats:
        """Mean of one column of the points over each pillar (P,)."""
        if len(self.cells) == 0:
            return np.zeros(0, np.float32)
        return np.asarray(np.add.reduceat(self.points[:, column], self.starts) / self.counts, np.float32)


def group_into_pillars(points: Floats, grid: PillarGrid) -> Pillars:
    """Sort an (N, 4) cloud into pillars; points outside the grid, non-finite ones and ghosts are left out."""
    points = np.compress(grid.inside(points), points, axis=0)
    cells = grid.cells(points)
    height = ((points[:, 2] - grid.z_low) * (HEIGHT_STEPS / (grid.z_high - grid.z_low))).astype(np.int32)
    real = ~is_ghost(cells, height, grid)
    points, cells, height = np.compress(real, points, axis=0), cells[real], height[real]
    order = np.argsort(cells * HEIGHT_STEPS + height)
    cells = np.take(cells, order)
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    counts = np.diff(first, append=len(cells))
    return Pillars(
        np.take(points, order, axis=0), cells[first].astype(np.int64), first.astype(np.int64), counts.astype(np.int64)
    )


def is_ghost(cells: npt.NDArray[np.int32], height: npt.NDArray[np.int32], grid: PillarGrid) -> npt.NDArray[np.bool_]:
    """Which points lie far below nearly all others of their block of `GHOST_BLOCK` squared cells -> (N,).

    Mirrored by a car's body, a beam travels on to the road and the return is placed metres under it. Few such points
    spoil every height measured from the ground. cells, height (N,): cell index and height in steps above z_low.
    """
    blocks = -(-grid.size // GHOST_BLOCK)
    block = cells // grid.size // GHOST_BLOCK * blocks + cells % grid.size // GHOST_BLOCK
    counts = np.bincount(block * HEIGHT_STEPS + height, minlength=blocks * blocks * HEIGHT_STEPS)
    below = np.cumsum(counts.reshape(-1, HEIGHT_STEPS), axis=1)
    floor = np.argmax(below > GHOST_SHARE * below[:, -1:], axis=1)
    margin = int(GHOST_DEPTH * HEIGHT_STEPS / (grid.z_high - grid.z_low))
    return np.asarray(height < floor[block] - margin)


def sample_points(pillars: Pillars, rows: Ints, per_pillar: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """At most `per_pillar` points of each chosen pillar, evenly spread over its heights -> (R, per_pillar, 4), mask
    (R, per_pillar)."""
    counts = pillars.counts[rows][:, None]
    slot = np.arange(per_pillar)[None, :]
    spread = np.where(counts > per_pillar, slot * counts // per_pillar, slot)
    mask = slot < counts
    index = pillars.starts[rows][:, None] + np.where(mask, spread, 0)
    return np.take(pillars.points, index, axis=0) * mask[..., None], mask


def occupancy(
    pillars: Pillars, grid: PillarGrid, divisions: int, z_low: float, z_step: float, slices: int
) -> npt.NDArray[np.uint8]:
    """Which sub-cells of each pillar hold a point: `divisions` squared columns of `slices` height slices -> (P,
    divisions**2 * slices).

    What lies below the first or above the last slice counts into it.
    """
    owner = np.repeat(np.arange(len(pillars.cells)), pillars.counts)
    points = pillars.points
    fine = ((points[:, :2] + grid.extent) * (divisions / grid.cell)).astype(np.int32) % divisions
    level = np.clip(((points[:, 2] - z_low) / z_step).astype(np.int32), 0, slices - 1)
    bits = np.zeros((len(pillars.cells), divisions * divisions * slices), np.uint8)
    bits[owner, (fine[:, 1] * divisions + fine[:, 0]) * slices + level] = 1
    return bits


def rows_of_cells(cells: Ints, rows: Ints, grid: PillarGrid, empty: int) -> Ints:
    """Which row of a feature table fills each cell of the grid (size**2,): `rows` (P,) at `cells` (P,), `empty`
    elsewhere."""
    table = np.full(grid.size**2, empty, np.int64)
    table[cells] = rows
    return table


def local_ground(pillars: Pillars, grid: PillarGrid, window: int) -> Floats:
    """Lowest point within a `window` x `window` neighbourhood of pillars (odd) around each pillar -> (P,) heights,
    m."""
    size, reach = grid.size, window // 2
    lowest = np.full(size * size, np.inf, np.float32)
    lowest[pillars.cells] = pillars.lowest
    padded = np.pad(lowest.reshape(size, size), reach, constant_values=np.inf)
    across = np.minimum.reduce([padded[:, k : k + size] for k in range(window)])
    both = np.minimum.reduce([across[k : k + size] for k in range(window)])
    return np.asarray(both.ravel()[pillars.cells], np.float32)
