# SPDX-License-Identifier: Apache-2.0
"""Flattened window attention's index tensors, computed in numpy before the graph (FlatFormer, CVPR 2023, section
3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
SORTINGS = ("x", "x_shift", "y", "y_shift")


@dataclass(frozen=True)
class Groups:
    """Where each token stands in each of the four sortings.

    orders (4, T): orders[s, k] is the token at place k of sorting s; consecutive `group` places form one attention
    group.
    inverse (4, T): the place of each token. positions (4, T): index of the in-window coordinates (y * window + x), in
    sorted order.
    """

    orders: Ints
    inverse: Ints
    positions: Ints


def snake_key(coordinates: Ints, window: int, sweep_x: bool) -> Ints:
    """Sorting key of (T, 2) cell coordinates (x, y): windows sweep row by row in snake order, and so do the cells
    within a window."""
    major, minor = (coordinates[:, 1], coordinates[:, 0]) if sweep_x else (coordinates[:, 0], coordinates[:, 1])
    row, column = major // window, minor // window
    cell_major, cell_minor = minor % window, major % window
    columns = int(minor.max(initial=0)) // window + 1
    column = np.where(row % 2 == 0, column, columns - 1 - column)
    cell_minor = np.where(cell_major % 2 == 0, cell_minor, window - 1 - cell_minor)
    within = cell_major * window + cell_minor
    within = np.where(row % 2 == 0, within, window * window - 1 - within)
    return (row * columns + column) * window * window + within


def flatten_windows(coordinates: Ints, window: int, padded: int) -> Groups:
    """Sort (T, 2) integer cell coordinates (x, y) four ways; the places from T to `padded` stay with the padding
    tokens at the end.

    Groups have equal size, not equal window: padding (masked as keys) only ever shares the last groups, also with
    fewer tokens than a group.
    """
    tokens = len(coordinates)
    orders = np.tile(np.arange(padded, dtype=np.int64), (len(SORTINGS), 1))
    positions = np.zeros_like(orders)
    inverse = orders.copy()
    for s, name in enumerate(SORTINGS):
        shifted = coordinates + (window // 2 if name.endswith("shift") else 0)
        order = np.argsort(snake_key(shifted, window, name.startswith("x")), kind="stable")
        orders[s, :tokens] = order
        inverse[s, order] = np.arange(tokens)
        cell = shifted[order] % window
        positions[s, :tokens] = cell[:, 1] * window + cell[:, 0]
    return Groups(orders, inverse, positions)
