# SPDX-License-Identifier: Apache-2.0
"""Prompts as a user or a program gives them, drawn from true masks: clicks, several clicks, loose boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CLICK, SEVERAL = 0.5, 0.3  # shares of prompts that are one click and several clicks; the others are boxes
MOST_CLICKS = 5
DEEP = 0.5  # share of clicks near the middle of the thickest part, where a user would click
REACH = 10  # pixels from the border beyond which all places are equally deep
LOOSE = 0.05  # standard deviation of a box's sides, of its size


def first_prompts(masks: Tensor, stride: int, points: int) -> tuple[Tensor, Tensor]:
    """A prompt for each mask (N, h, w) bool, of which a pixel is `stride` input pixels wide: coordinates (N, points, 2)
    x y in input pixels; labels (N, points): 1 a click inside, 2 and 3 the corners of a box, -1 none."""
    count = len(masks)
    clicks = torch.stack([click_in(masks) for _ in range(MOST_CLICKS)], 1)
    kind = torch.rand(count, 1, device=masks.device)
    clicked = torch.where(kind < CLICK, 1, torch.randint(2, MOST_CLICKS + 1, (count, 1), device=masks.device))
    labels = torch.where(torch.arange(MOST_CLICKS, device=masks.device) < clicked, 1, -1)
    corners = torch.cat([_loose_box(masks), clicks[:, 2:]], 1)
    is_box = kind >= CLICK + SEVERAL
    box_labels = torch.tensor([2, 3] + [-1] * (MOST_CLICKS - 2), device=masks.device)
    places = torch.where(is_box.unsqueeze(-1), corners, clicks)
    labels = torch.where(is_box, box_labels, labels)
    spare = points - MOST_CLICKS
    return functional.pad(_to_input(places, stride), (0, 0, 0, spare)), functional.pad(labels, (0, spare), value=-1)


def next_clicks(wrong: Tensor, masks: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """A click into each error region (N, h, w): x y in input pixels (N, 2) and its label (N,): 1 where the mask was
    missed, 0 where too much was taken, -1 where nothing is wrong."""
    clicks = click_in(wrong)
    x, y = clicks.long().unbind(1)
    inside = masks[torch.arange(len(masks), device=masks.device), y, x].long()
    return _to_input(clicks, stride), torch.where(wrong.flatten(1).any(1), inside, -1)


def click_in(masks: Tensor) -> Tensor:
    """A pixel x y (N, 2) of each mask (N, h, w); anything where a mask is empty."""
    deep = _depth(masks)
    deep = deep * (torch.rand(len(masks), 1, 1, device=masks.device) < DEEP)
    floor = 0.8 * deep.flatten(1).amax(1)[:, None, None]
    allowed = masks & (deep >= floor)
    chance = torch.rand(masks.shape, device=masks.device) * allowed
    place = chance.flatten(1).argmax(1)
    return torch.stack([place % masks.shape[2], place // masks.shape[2]], 1).float()


def _depth(masks: Tensor) -> Tensor:
    """How often (N, h, w) the masks can be eroded until a pixel is gone, at most REACH; image borders count as rims."""
    left = masks.unsqueeze(1).float()
    total = torch.zeros_like(left)
    for _ in range(REACH):
        total = total + left
        left = 1 - functional.max_pool2d(functional.pad(1 - left, (1, 1, 1, 1), value=1.0), 3, 1)
    return total.squeeze(1)


def _loose_box(masks: Tensor) -> Tensor:
    """The two corners (N, 2, 2) of each mask's box, off by at most a tenth of its sides."""
    sides = []
    for axis in (1, 2):  # columns, then rows
        filled = masks.any(axis)
        low = filled.int().argmax(1)
        high = filled.shape[1] - 1 - filled.flip(1).int().argmax(1)
        sides.append(torch.stack([low, high], 1).float())
    box = torch.stack(sides, 2)
    error = (LOOSE * torch.randn_like(box)).clamp(-2 * LOOSE, 2 * LOOSE)
    return box + error * (box[:, 1:] - box[:, :1])


def _to_input(places: Tensor, stride: int) -> Tensor:
    return (places + 0.5) * stride - 0.5
