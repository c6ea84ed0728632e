# SPDX-License-Identifier: Apache-2.0
"""What a stream of images is remembered by, and how it changes from one image to the next."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class State(NamedTuple):
    """tokens (B, S, D) of the scene, memory (B, M, 2 * D) of poses."""

    tokens: Tensor
    memory: Tensor


def blend(
    old: State,
    new: State,
    update: Tensor,
    reset: Tensor,
    initial: State,
    gate: Tensor | None = None,
    fresh: Tensor | None = None,
) -> State:
    """The state after an image; flags (B,) are 1 or 0. `reset` wins over `update`, without which the old state stays.

    With a gate (B, S, 1) from 0 to 1, tokens go only that far from old to new (Chen et al., TTT3R, 2025), except where
    the old state is `fresh`: the initial one knows nothing worth keeping. The memory is never gated.
    """
    tokens = new.tokens
    if gate is not None:
        gate = gate if fresh is None else torch.where(flag(fresh), torch.ones_like(gate), gate)
        tokens = old.tokens + gate * (new.tokens - old.tokens)
    return chosen(flag(reset), initial, chosen(flag(update), State(tokens, new.memory), old))


def chosen(where: Tensor, this: State, other: State) -> State:
    """`this` where (B, 1, 1) true. What is not chosen may even be NaN."""
    return State(*(torch.where(where, a, b) for a, b in zip(this, other, strict=True)))


def flag(values: Tensor) -> Tensor:
    """(B,) 1 or 0 -> (B, 1, 1) true or false."""
    return (values > 0.5).reshape(-1, 1, 1)
