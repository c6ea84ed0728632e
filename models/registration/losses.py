# SPDX-License-Identifier: Apache-2.0
"""Losses of the registration network: who corresponds (points), who can be matched, and which surroundings overlap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from perception_models.registration.data import Pair
from perception_models.registration.network import Outputs

MARGIN_NEAR, MARGIN_FAR, CIRCLE_SCALE = 0.1, 1.4, 24.0  # of the circle loss, as GeoTransformer sets them
OVERLAPPING = 0.1  # super-points whose surroundings share more are positives
WEIGHTS = {"precision": 1.0, "match": 0.2, "matchability": 0.3, "circle": 0.2}
FLATTEN = 0.5  # power of the confidences whose precision counts: a lower one looks further down the ranking


def registration_loss(outputs: Outputs, pair: Pair, softness: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and each part with it for the log; outputs are of the pair's rows only. softness () divides
    the logits of the assignment."""
    descriptors, matchable, coarse, other_descriptors, other_matchable, other_coarse = outputs
    logits = descriptors @ other_descriptors.T
    right, other_right = best_match_is_right(logits.detach(), pair.positive)
    prior = F.logsigmoid(matchable)[:, None] + F.logsigmoid(other_matchable)
    parts = {
        "precision": precision_loss(logits, prior, pair.positive),
        "match": assignment_loss(logits / softness, pair.positive),
        "matchability": 0.5 * binary(matchable, right) + 0.5 * binary(other_matchable, other_right),
        "circle": overlap_circle_loss(coarse, other_coarse, pair.overlaps),
    }
    loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
    return loss, {"loss": loss.item()} | {name: part.item() for name, part in parts.items()}


def precision_loss(logits: Tensor, prior: Tensor, positive: Tensor) -> Tensor:
    """Minus the log of the share of confidence that lies on true matches (Q, R): what ranking by confidence looks for.

    The confidence is the dual softmax of the logits (Q, R) times exp(prior) (Q, R), to the power of FLATTEN. What
    cannot be told from others may keep its low confidence; a likelihood of all points would sharpen on those.
    """
    ranked = 2 * logits - torch.logsumexp(logits, 1, keepdim=True) - torch.logsumexp(logits, 0) + prior
    ranked = FLATTEN * ranked
    return torch.logsumexp(ranked.flatten(), 0) - torch.logsumexp(ranked[positive], 0)


def best_match_is_right(logits: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the likeliest partner of each point, by the dual softmax of logits (Q, R), is a true one: (Q,), (R,).

    Points without a partner are never right, so this holds matchability, and whether a point can be told from others.
    """
    scores = 2 * logits - torch.logsumexp(logits, 1, keepdim=True) - torch.logsumexp(logits, 0)
    by_row = positive.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    by_column = positive.gather(0, scores.argmax(0, keepdim=True))[0]
    return by_row, by_column


def assignment_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Negative log-likelihood of the dual softmax of logits (Q, R) that a point meets one of its positives (Q, R);
    zero where there is none."""
    masked = logits.masked_fill(~positive, -torch.inf)
    rows, columns = positive.any(1), positive.any(0)
    if not rows.any():
        return logits.sum() * 0
    by_row = torch.logsumexp(logits[rows], 1) - torch.logsumexp(masked[rows], 1)
    by_column = torch.logsumexp(logits[:, columns], 0) - torch.logsumexp(masked[:, columns], 0)
    return 0.5 * (by_row.mean() + by_column.mean())


def binary(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy (), with both labels counting alike however many there are of each."""
    labels = labels.float()
    share = labels.mean().clamp(0.02, 0.98)
    weight = labels * 0.5 / share + (1 - labels) * 0.5 / (1 - share)
    return F.binary_cross_entropy_with_logits(logits, labels, weight)


def overlap_circle_loss(source: Tensor, target: Tensor, overlaps: Tensor) -> Tensor:
    """Overlap-aware circle loss (GeoTransformer, CVPR 2022, section 3.5) of unit descriptors (S, L), (T, L) with the
    overlaps (S, T) of their surroundings; zero where nothing overlaps."""
    distance = torch.sqrt((2 - 2 * source @ target.T).clamp(min=1e-6))
    positive, negative = overlaps > OVERLAPPING, overlaps == 0
    pull = CIRCLE_SCALE * (distance - MARGIN_NEAR).clamp(min=0).detach() * (distance - MARGIN_NEAR)
    pull = (pull * overlaps.sqrt()).masked_fill(~positive, -torch.inf)
    push = CIRCLE_SCALE * (MARGIN_FAR - distance).clamp(min=0).detach() * (MARGIN_FAR - distance)
    push = push.masked_fill(~negative, -torch.inf)
    sides = []
    for axis in (0, 1):
        anchors = positive.any(axis) & negative.any(axis)
        both = torch.logsumexp(pull, axis)[anchors] + torch.logsumexp(push, axis)[anchors]
        sides.append(F.softplus(both).mean() / CIRCLE_SCALE if anchors.any() else distance.sum() * 0)
    return 0.5 * (sides[0] + sides[1])
