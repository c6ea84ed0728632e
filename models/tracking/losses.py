# SPDX-License-Identifier: Apache-2.0
"""What training minimises: errors in units of the object's size, the same for every category."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from perception_models.tracking.network import TrackerOutputs

# A radian counts as so many units of the size: at the ends of a box both are the same.
TURN = 0.7
HUBER = 0.05
WEIGHTS = {"coarse": 1.0, "offset": 2.0, "spread": 0.05, "score": 0.2, "votes": 0.5}
WEIGHTS |= {"previous": 0.3, "state": 0.1, "foreground": 0.2}


def tracking_loss(outputs: TrackerOutputs, truth: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and its parts. truth: offset (B, 4), previous (B, 4), seen (B,), state (B,), foreground
    (B, Q), size (B, 3), as `data.Sample` has them."""
    seen = truth["seen"]
    current = truth["foreground"][:, : outputs.votes.shape[1]]
    present = current * seen[:, None]
    error = outputs.offset - truth["offset"]
    parts = {
        "coarse": _mean(_distance(outputs.coarse - truth["offset"]), seen),
        "offset": _mean(_distance(error), seen),
        "spread": _mean(_likelihood(error.detach(), outputs.spread), seen),
        "score": F.binary_cross_entropy_with_logits(outputs.score[:, 0], right(outputs.offset.detach(), truth)),
        "votes": _mean(F.huber_loss(outputs.votes, truth["offset"][:, None, :3].expand_as(outputs.votes),
                                    reduction="none", delta=HUBER).sum(dim=-1) / HUBER, present),
        "previous": _mean(_distance(outputs.previous - truth["previous"]), torch.ones_like(seen)),
        "state": F.binary_cross_entropy_with_logits(outputs.state[:, 0], truth["state"]),
        "foreground": _foreground(outputs.foreground, truth),
    }  # fmt: skip
    total: Tensor = torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum()
    return total, {"loss": float(total.detach())} | {name: float(value.detach()) for name, value in parts.items()}


def right(offset: Tensor, truth: dict[str, Tensor]) -> Tensor:
    """1 where the object is seen and the centre of the box at an offset is within half its width of the truth (B,)."""
    apart = (offset[:, :3] - truth["offset"][:, :3]) * truth["size"]
    near: Tensor = (apart.norm(dim=-1) < truth["size"][:, 1] / 2).float()
    return near * truth["seen"]


def _distance(error: Tensor) -> Tensor:
    """Huber distances (B,) of errors (B, 4)."""
    scaled = torch.cat([error[:, :3], TURN * torch.sin(error[:, 3:4])], dim=-1)
    return F.huber_loss(scaled, torch.zeros_like(scaled), reduction="none", delta=HUBER).sum(dim=-1) / HUBER


def _likelihood(error: Tensor, spread: Tensor) -> Tensor:
    """Negative log likelihood (B,) of errors (B, 4) whose absolute value is exponentially distributed."""
    return (error.abs().clamp(max=2.0) * torch.exp(-spread) + spread).sum(dim=-1)


def _foreground(logits: Tensor, truth: dict[str, Tensor]) -> Tensor:
    each = F.binary_cross_entropy_with_logits(logits, truth["foreground"], reduction="none")
    return _mean(each, truth["valid"])


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / (weight.sum() + 1e-6)
