# SPDX-License-Identifier: Apache-2.0
"""From a point cloud to the network's input tensors. Every index is computed here, none in the graph."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.detection.grouping import flatten_windows
from perception_models.detection.settings import DetectionSettings
from perception_models.geometry.pillars import (
    Floats,
    Ints,
    Pillars,
    group_into_pillars,
    local_ground,
    occupancy,
    rows_of_cells,
    sample_points,
)

Tensors = dict[str, npt.NDArray[np.generic]]

STATISTICS = 10
POINT_FEATURES = 8
MASKED = -1e4  # finite, so that a group of padding alone still has a softmax


@dataclass(frozen=True)
class NetworkInput:
    """Input tensors of one scan: P pillar rows of which the first T are attention tokens, both counts padded.

    tensors: occupancy (P, bits) uint8; statistics (P, 10) float32; bev_rows (size**2,) int64, the pillar row in each
    cell
    of the grid, P where none is; points (T, K, 8) float32; point_bias (T, K) float32 (0 or -1e4); orders, inverse,
    positions (4, T) int64; token_bias (T,) float32.
    overflow: pillars and tokens left out because they exceed the model's capacity.
    """

    tensors: Tensors
    overflow: int


@dataclass(frozen=True)
class _Rows:
    """Which pillar stands in which row: `pillars` (R,) in rows `places` (R,), the first `tokens` of them structured."""

    pillars: Ints
    places: Ints
    tokens: int
    padded_tokens: int
    padded_rows: int


def prepare(points: Floats, settings: DetectionSettings, pad_to_capacity: bool = False) -> NetworkInput:
    """Turn an (N, 4) cloud x y z intensity (m, sensor frame) into network input."""
    pillars = group_into_pillars(points, settings.grid)
    ground = local_ground(pillars, settings.grid, settings.ground_window)
    chosen, tokens, overflow = _tokens_first(pillars, pillars.highest - ground, settings)
    rows = _arrange(chosen, tokens, settings, pad_to_capacity)
    # Both halves are numpy on large arrays, which frees the interpreter: two cores share them.
    with ThreadPoolExecutor(1) as other_core:
        of_tokens = other_core.submit(_token_tensors, pillars, ground, rows, settings)
        tensors = _pillar_tensors(pillars, ground, rows, settings)
        return NetworkInput({**tensors, **of_tokens.result()}, overflow)


def _arrange(chosen: Ints, tokens: int, settings: DetectionSettings, pad_to_capacity: bool) -> _Rows:
    """Tokens first, flat pillars behind their padding. Coarse multiples keep the number of different shapes small."""
    flat = len(chosen) - tokens
    padded_tokens = settings.max_tokens if pad_to_capacity else _padded(tokens, 8 * settings.group)
    padded_rows = settings.max_pillars if pad_to_capacity else padded_tokens + _padded(flat, 512)
    places = np.concatenate([np.arange(tokens), padded_tokens + np.arange(flat)])
    return _Rows(chosen, places, tokens, padded_tokens, padded_rows)


def _pillar_tensors(pillars: Pillars, ground: Floats, rows: _Rows, settings: DetectionSettings) -> Tensors:
    grid = settings.grid
    bits = np.zeros((rows.padded_rows, settings.occupancy_bits), np.uint8)
    bits[rows.places] = _occupancy(pillars, settings)[rows.pillars]
    statistics = np.zeros((rows.padded_rows, STATISTICS), np.float32)
    statistics[rows.places] = _statistics(pillars, ground, settings)[rows.pillars]
    bev_rows = rows_of_cells(pillars.cells[rows.pillars], rows.places, grid, empty=rows.padded_rows)
    return {"occupancy": bits, "statistics": statistics, "bev_rows": bev_rows}


def _token_tensors(pillars: Pillars, ground: Floats, rows: _Rows, settings: DetectionSettings) -> Tensors:
    tokens, padded = rows.pillars[: rows.tokens], rows.padded_tokens
    sampled, mask = _token_points(pillars, ground, tokens, settings)
    coordinates = settings.grid.coordinates(pillars.cells[tokens])
    groups = flatten_windows(coordinates, settings.window, padded)
    return {
        "points": _pad_rows(sampled, padded),
        "point_bias": _pad_rows(np.where(mask, 0, MASKED).astype(np.float32), padded),
        "orders": groups.orders,
        "inverse": groups.inverse,
        "positions": groups.positions,
        "token_bias": np.where(np.arange(padded) < rows.tokens, 0, MASKED).astype(np.float32),
    }


def _tokens_first(pillars: Pillars, rise: Floats, settings: DetectionSettings) -> tuple[Ints, int, int]:
    """Pillar rows with the structured ones (that rise above the local ground) first, cut to capacity, nearest kept."""
    distance = np.square(settings.grid.centres(pillars.cells)).sum(axis=1)
    structured = rise > settings.structure_height
    first, rest = np.flatnonzero(structured), np.flatnonzero(~structured)
    room = settings.max_pillars - settings.max_tokens
    kept, kept_rest = _nearest(first, distance, settings.max_tokens), _nearest(rest, distance, room)
    overflow = len(first) - len(kept) + len(rest) - len(kept_rest)
    return np.concatenate([kept, kept_rest]), len(kept), overflow


def _nearest(rows: Ints, distance: Floats, room: int) -> Ints:
    if len(rows) <= room:
        return rows
    return np.sort(rows[np.argpartition(distance[rows], room)[:room]])


def _padded(count: int, multiple: int) -> int:
    return max(1, -(-count // multiple)) * multiple


def _pad_rows(values: Floats, rows: int) -> Floats:
    return np.concatenate([values, np.zeros((rows - len(values), *values.shape[1:]), values.dtype)])


def _occupancy(pillars: Pillars, s: DetectionSettings) -> npt.NDArray[np.uint8]:
    return occupancy(pillars, s.grid, s.divisions, s.slice_low, s.slice_step, s.slices)


def _statistics(pillars: Pillars, ground: Floats, settings: DetectionSettings) -> Floats:
    """Ten numbers a pillar, each of order one: count, heights, rise over the ground, intensity, where it is."""
    centres = settings.grid.centres(pillars.cells) / settings.grid.extent
    columns = [
        np.log1p(pillars.counts) / 5,
        pillars.mean(2) / 2,
        pillars.lowest / 2,
        pillars.highest / 2,
        pillars.lowest - ground,
        pillars.highest - ground,
        pillars.mean(3),
        centres[:, 0],
        centres[:, 1],
        np.hypot(centres[:, 0], centres[:, 1]),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _token_points(
    pillars: Pillars, ground: Floats, rows: Ints, settings: DetectionSettings
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Points of the tokens: offset from the pillar's centre (in pillar sides), height, height over ground, intensity,
    offset from the mean of the pillar's points."""
    sampled, mask = sample_points(pillars, rows, settings.points_per_pillar)
    centres = settings.grid.centres(pillars.cells[rows])
    # Planes (T, K) are worked on whole and joined once: writing into (T, K, 8) column by column is three times slower.
    present = mask.astype(np.float32)
    x, y, z, intensity = np.ascontiguousarray(sampled.transpose(2, 0, 1))
    x = (x - centres[:, :1]) / settings.grid.cell * present
    y = (y - centres[:, 1:]) / settings.grid.cell * present
    rise = (z - ground[rows][:, None]) * present
    z = z / 2
    count = mask.sum(axis=1, keepdims=True, dtype=np.float32)
    offsets = [(plane - plane.sum(axis=1, keepdims=True) / count) * present for plane in (x, y, z)]
    return np.stack([x, y, z, rise, intensity, *offsets], axis=2), mask
