# SPDX-License-Identifier: Apache-2.0
"""A distance between the points of two clouds, from distances within each: the Gromov-Wasserstein discrepancy.

For a coupling T with marginals p and q, C[i, j] = sum over k, l of (D_p[i, k] - D_q[j, l])^2 T[k, l] says how badly
the distances of i to everything agree with those of j to its partners (Peyre et al., ICML 2016). It does not change
when either cloud moves rigidly. Used as a cross-cloud distance (Fully-Geometric Cross-Attention, 3DV 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.registration.sinkhorn import NO_MASS, mutual_log_marginals, sinkhorn


def gromov_wasserstein_cost(source: Tensor, target: Tensor, coupling: Tensor) -> Tensor:
    """Cost (S, T) from distances within the clouds (S, S), (T, T) and a coupling (S, T), in distance squared."""
    p, q = coupling.sum(1), coupling.sum(0)
    own = (source**2) @ p
    other = (target**2) @ q
    return own[:, None] + other - 2 * source @ coupling @ target.T


class GromovWasserstein(nn.Module):
    """From scores across the clouds to a distance across them: Sinkhorn coupling, then mirror-descent steps on scores
    minus cost. Computes in FP32."""

    def __init__(self, steps: int = 2, iterations: int = 5, reach: float = 6.0) -> None:
        super().__init__()
        self.steps, self.iterations, self.reach = steps, iterations, reach
        self.log_weight = nn.Parameter(torch.tensor(-1.0))  # of the cost against the scores

    def forward(
        self, scores: Tensor, source: Tensor, target: Tensor, source_mask: Tensor, target_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """scores (S, T); distances (S, S), (T, T) in cells; masks (S,), (T,) -> distance (S, T) in cells, coupling
        (S, T). Distances count up to `reach` cells: what is further is mostly not in both clouds."""
        source, target = source.float().clamp(max=self.reach), target.float().clamp(max=self.reach)
        scores = scores.float() - NO_MASS * (1 - source_mask[:, None] * target_mask)
        log_p, log_q = mutual_log_marginals(scores, source_mask, target_mask)
        coupling = torch.exp(sinkhorn(scores, log_p, log_q, self.iterations))
        for _ in range(self.steps):
            cost = gromov_wasserstein_cost(source, target, coupling)
            coupling = torch.exp(sinkhorn(scores - self.log_weight.exp() * cost, log_p, log_q, self.iterations))
        cost = gromov_wasserstein_cost(source, target, coupling)
        return torch.sqrt(cost.clamp(min=1e-4)), coupling
