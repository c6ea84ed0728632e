# SPDX-License-Identifier: Apache-2.0
"""The cut of a graph against every division there is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from perception_models.segmentation.cut import contract, cost, cut, divide, improve

NODES = 6
EDGES = np.array([(a, b) for a in range(NODES) for b in range(a + 1, NODES)])


def divisions(count: int) -> Iterator[list[int]]:
    """Every way to put `count` nodes into groups."""
    if not count:
        yield []
        return
    for first in divisions(count - 1):
        for group in range(max(first, default=-1) + 2):
            yield [*first, group]


def test_there_are_as_many_divisions_as_bell_counts() -> None:
    assert [sum(1 for _ in divisions(count)) for count in range(6)] == [1, 1, 2, 5, 15, 52]


def test_the_cut_is_the_best_of_all_divisions_or_near_it() -> None:
    rng, everything = np.random.default_rng(0), [np.array(one) for one in divisions(NODES)]
    best_found = 0
    for _ in range(40):
        gain = rng.normal(0, 1, len(EDGES))
        found = cost(divide(NODES, EDGES, gain), EDGES, gain)
        costs = [cost(one, EDGES, gain) for one in everything]
        best_found += found < min(costs) + 1e-9
        assert found <= min(costs) + 0.2 * np.abs(gain).sum()
    assert best_found >= 32


def test_moves_never_make_a_division_worse() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        gain, start = rng.normal(0, 1, len(EDGES)), rng.integers(0, 3, NODES)

        assert cost(improve(start, EDGES, gain), EDGES, gain) <= cost(start, EDGES, gain) + 1e-9


def test_no_two_groups_attract_each_other_in_the_end() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        gain = rng.normal(0, 1, len(EDGES))

        groups = divide(NODES, EDGES, gain)

        joined = contract(NODES, groups[EDGES], gain)[groups]
        assert len(set(joined.tolist())) == len(set(groups.tolist()))


def test_groups_that_were_planted_come_back_from_noisy_affinities() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 8, 120)
    edges = np.unique(np.sort(rng.integers(0, 120, (5000, 2)), axis=1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    same = truth[edges[:, 0]] == truth[edges[:, 1]]
    affinity = np.clip(np.where(same, 0.8, 0.2) + rng.normal(0, 0.15, len(edges)), 0, 1)

    groups = cut(120, edges, affinity)

    assert len(np.unique(np.column_stack([groups, truth]), axis=0)) == 8 == groups.max() + 1


def test_one_doubtful_edge_does_not_outweigh_many_that_repel() -> None:
    """A threshold on edges would join both halves over their only attracting edge."""
    edges = np.array([(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3), (0, 3), (1, 4), (2, 5)])
    affinity = np.array([0.9] * 6 + [0.6] + [0.2] * 3)

    groups = cut(6, edges, affinity)

    assert groups[0] == groups[1] == groups[2] != groups[3] == groups[4] == groups[5]


def test_the_threshold_says_what_attracts() -> None:
    edge = np.array([(0, 1)])

    assert cut(2, edge, np.array([0.6])).tolist() == [0, 0]
    assert cut(2, edge, np.array([0.6]), threshold=0.7).tolist() == [0, 1]


def test_an_edge_counts_by_its_weight() -> None:
    edges, affinity = np.array([(0, 1), (0, 2), (1, 2)]), np.array([0.7, 0.7, 0.1])

    assert cut(3, edges, affinity, weight=np.array([1.0, 1.0, 0.0])).tolist() == [0, 0, 0]
    assert len(set(cut(3, edges, affinity, weight=np.array([1.0, 0.5, 1.0])).tolist())) == 2


def test_nodes_without_edges_stay_alone() -> None:
    none = np.zeros((0, 2), int)

    assert cut(3, none, np.zeros(0)).tolist() == [0, 1, 2]
    assert cut(0, none, np.zeros(0)).tolist() == []


@pytest.mark.parametrize("affinity", [np.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(affinity: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        cut(2, np.array([(0, 1)]), np.array([affinity]))
