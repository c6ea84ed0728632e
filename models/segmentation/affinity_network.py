# SPDX-License-Identifier: Apache-2.0
"""The network that scores pairs of super-points: attention over the graph, in which edges have states of their own.

As in SAM-guided Graph Cut (Guo et al., ECCV 2024) a graph network refines what views say of pairs; its layout is not
published, and this one is ours: each super-point attends to at most D neighbours, which are given as indices, so that
the graph has nothing data-dependent in it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.segmentation.affinity_input import EDGE_CHANNELS, NODE_CHANNELS, TENSORS

INPUTS = TENSORS
OUTPUTS = ("odds",)
HIDDEN = -1e4  # attention to an empty slot


class EdgeAttention(nn.Module):
    """One round: super-points (S, C) hear neighbours through edges (S, D, C), then edges hear both of their ends."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.edge_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query, self.key_value = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)
        self.edge_key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.mlp = _mlp(channels, channels)
        self.edge_mlp = _mlp(3 * channels, channels)

    def forward(self, nodes: Tensor, edges: Tensor, neighbours: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """neighbours (S, D) int64 rows of nodes, mask (S, D) 1 where a slot is used."""
        count, slots = neighbours.shape
        nodes_in, edges_in = self.norm(nodes), self.edge_norm(edges)
        heard = self.key_value(nodes_in)[neighbours] + self.edge_key_value(edges_in)
        key, value = heard.view(count, slots, 2, self.heads, -1).unbind(2)
        query = self.query(nodes_in).view(count, 1, self.heads, -1)
        scores = (query * key).sum(-1) / key.shape[-1] ** 0.5 + (1 - mask[..., None]) * HIDDEN
        share = scores.softmax(dim=1) * mask[..., None]
        nodes = nodes + self.out((share[..., None] * value).sum(1).flatten(1))
        nodes = nodes + self.mlp(nodes)
        both = torch.cat([edges, nodes[:, None].expand_as(edges), nodes[neighbours]], dim=-1)
        return nodes, edges + self.edge_mlp(both)


class AffinityNetwork(nn.Module):
    """Graph tensors of `AffinityInput` -> log odds (S, D) that the ends of each slot are of one thing.

    It starts as the prior: what it says is added to that, and is nothing at first.
    """

    def __init__(self, channels: int = 48, layers: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.nodes = nn.Sequential(nn.Linear(NODE_CHANNELS, channels), nn.GELU(), nn.Linear(channels, channels))
        self.edges = nn.Sequential(nn.Linear(EDGE_CHANNELS, channels), nn.GELU(), nn.Linear(channels, channels))
        self.layers = nn.ModuleList(EdgeAttention(channels, heads) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU())
        self.last = nn.Linear(channels, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, nodes: Tensor, edges: Tensor, neighbours: Tensor, mask: Tensor, prior: Tensor) -> Tensor:
        """nodes (S, 8), edges (S, D, 13), neighbours, mask and prior (S, D)."""
        nodes, edges = self.nodes(nodes), self.edges(edges)
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, neighbours, mask)
        odds: Tensor = prior + self.last(self.head(edges)).squeeze(-1) * mask
        return odds


class DeployedAffinity(nn.Module):
    """The network as it is exported: its outputs by the order of OUTPUTS."""

    def __init__(self, network: AffinityNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        """Tensors by the order of INPUTS."""
        return (self.network(*tensors),)


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, 2 * outputs), nn.GELU(), nn.Linear(2 * outputs, outputs)
    )
