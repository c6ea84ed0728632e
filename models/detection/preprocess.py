# SPDX-License-Identifier: Apache-2.0
"""From a point cloud to the network's input tensors. Every index is computed here, none in the graph."""

from __future__ import annotations

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
    sample_points,
)

STATISTICS = 10
POINT_FEATURES = 5
MASKED = -1e4


@dataclass(frozen=True)
class NetworkInput:
    """Input tensors of one scan: P pillar rows of which the first T are attention tokens, both counts padded.

    tensors: occupancy (P, bits) uint8; statistics (P, 10) float32; cells (P,) int64 (grid.size**2 for padding rows);
    points (T, K, 5) float32; point_bias (T, K) float32 (0 or -1e4); orders, inverse, positions (4, T) int64;
    token_bias (T,) float32.
    overflow: pillars and tokens left out because they exceed the model's capacity.
    """

    tensors: dict[str, npt.NDArray[np.generic]]
    overflow: int


def prepare(points: Floats, settings: DetectionSettings, pad_to_capacity: bool = False) -> NetworkInput:
    """Turn an (N, 4) cloud x y z intensity (m, sensor frame) into network input."""
    grid = settings.grid
    pillars = group_into_pillars(points, grid)
    ground = local_ground(pillars, grid, settings.ground_window)
    rows, tokens, overflow = _tokens_first(pillars, pillars.highest - ground, settings)
    padded_tokens = settings.max_tokens if pad_to_capacity else _padded(tokens, 8 * settings.group)
    flat = len(rows) - tokens
    padded_rows = settings.max_pillars if pad_to_capacity else padded_tokens + _padded(flat, 512)
    place = np.concatenate([np.arange(tokens), padded_tokens + np.arange(flat)])

    cells = np.full(padded_rows, grid.size**2, np.int64)
    cells[place] = pillars.cells[rows]
    bits = np.zeros((padded_rows, settings.occupancy_bits), np.uint8)
    bits[place] = _occupancy(pillars, settings)[rows]
    statistics = np.zeros((padded_rows, STATISTICS), np.float32)
    statistics[place] = _statistics(pillars, ground, settings)[rows]
    sampled, mask = _token_points(pillars, ground, rows[:tokens], settings)
    coordinates = np.stack([cells[:tokens] % grid.size, cells[:tokens] // grid.size], axis=1)
    groups = flatten_windows(coordinates, settings.window, padded_tokens)
    tensors: dict[str, npt.NDArray[np.generic]] = {
        "occupancy": bits,
        "statistics": statistics,
        "cells": cells,
        "points": _pad_rows(sampled, padded_tokens),
        "point_bias": _pad_rows(np.where(mask, 0, MASKED).astype(np.float32), padded_tokens),
        "orders": groups.orders,
        "inverse": groups.inverse,
        "positions": groups.positions,
        "token_bias": np.where(np.arange(padded_tokens) < tokens, 0, MASKED).astype(np.float32),
    }
    return NetworkInput(tensors, overflow)


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
    """Points of the tokens as offsets from the pillar's centre (in pillar sides), height, height over ground,
    intensity."""
    sampled, mask = sample_points(pillars, rows, settings.points_per_pillar)
    centres = settings.grid.centres(pillars.cells[rows])
    features = np.empty((*mask.shape, POINT_FEATURES), np.float32)
    features[..., :2] = (sampled[..., :2] - centres[:, None, :]) / settings.grid.cell
    features[..., 2] = sampled[..., 2] / 2
    features[..., 3] = sampled[..., 2] - ground[rows][:, None]
    features[..., 4] = sampled[..., 3]
    return features * mask[..., None], mask
