# SPDX-License-Identifier: Apache-2.0
"""Entropic optimal transport in the log domain (Cuturi, NeurIPS 2013)."""

from __future__ import annotations

import torch
from torch import Tensor

NO_MASS = 1e4  # taken from log-masses and scores of padding


def sinkhorn(scores: Tensor, log_p: Tensor, log_q: Tensor, iterations: int = 5) -> Tensor:
    """Log of the coupling (S, T) of the form exp(scores + row + column) with marginals exp(log_p) (S,), exp(log_q)
    (T,): exact in q, and in p as far as the iterations have converged."""
    row, column = torch.zeros_like(log_p), torch.zeros_like(log_q)
    for _ in range(iterations):
        row = log_p - torch.logsumexp(scores + column, dim=1)
        column = log_q - torch.logsumexp(scores + row[:, None], dim=0)
    return scores + row[:, None] + column


def mutual_log_marginals(scores: Tensor, source_mask: Tensor, target_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Log-marginals (S,), (T,) of total mass 1 by the mutual confidence of scores (S, T): what has no partner in the
    other cloud gets little mass. A uniform share keeps each positive; what the masks leave out gets none."""
    mutual = torch.softmax(scores, dim=0) * torch.softmax(scores, dim=1) * source_mask[:, None] * target_mask
    return _log_share(mutual.sum(1), source_mask), _log_share(mutual.sum(0), target_mask)


def _log_share(mass: Tensor, mask: Tensor, uniform: float = 0.05) -> Tensor:
    share = (mass / mass.sum() + uniform * mask / mask.sum()) / (1 + uniform)
    return torch.log(share + (1 - mask)) - NO_MASS * (1 - mask)
