# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding in two dimensions (Su et al., RoFormer, 2021; for images as in CroCo v2, ICCV 2023, 3.1).

The first half of a head's channels turns with the row, the second with the column, so that the product of two turned
vectors depends on how far apart they are and not on where. Angles are computed from the places and not looked up by
them: the pose token stands at (-1, -1), outside of any table that begins at zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 100.0


def grid_places(rows: int, columns: int) -> Tensor:
    """(rows * columns, 2) row and column of each cell, row by row."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([row, column], -1).reshape(-1, 2)


def turns(places: Tensor, channels: int) -> Tensor:
    """Cosines and sines (2, N, channels) by which `turn` turns heads of `channels` (a multiple of 4) at places (N, 2).

    The sines bear the sign that their place in `turn` asks for.
    """
    quarter = channels // 4
    frequency = BASE ** (-torch.arange(quarter, device=places.device) / quarter)
    row, column = (places[:, axis, None] * frequency for axis in (0, 1))
    cosines = torch.cat([row.cos(), row.cos(), column.cos(), column.cos()], -1)
    sines = torch.cat([-row.sin(), row.sin(), -column.sin(), column.sin()], -1)
    return torch.stack([cosines, sines])


def turn(x: Tensor, table: Tensor) -> Tensor:
    """Queries or keys (..., N, channels), turned by the table (2, N, channels) of their places."""
    swapped = x.reshape(*x.shape[:-1], 2, 2, -1).roll(1, -2).reshape(x.shape)  # in each half the first and second part
    cosines, sines = table.to(x.dtype).unbind(0)  # a cast of the product would be a node in an exported graph
    return x * cosines + swapped * sines
