# SPDX-License-Identifier: Apache-2.0
"""Super-points: the neighbour graph, its division against slow references, surfaces and colours that part."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from perception_models.evaluation.instances import superpoint_figures
from perception_models.segmentation.graph_parts import divide, joined, lightest
from perception_models.segmentation.neighbours import estimate_normals, neighbour_edges
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.superpoints import edge_costs, superpoints, without_small
from perception_models.segmentation.thinning import Thinned

SETTINGS = SegmentationSettings()


def random_graph(seed: int, count: int = 40, links: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Edges (2, E) of a graph by rising cost (E,)."""
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, count, (2, links)).astype(np.int32)
    edges = edges[:, edges[0] != edges[1]]
    return edges, np.sort(rng.random(edges.shape[1])).astype(np.float32)


def inner_cost(part: np.ndarray, edges: np.ndarray, cost: np.ndarray, count: int) -> float:
    """The heaviest edge of a part's minimum spanning tree."""
    inside = np.isin(edges, part).all(axis=0)
    lightest_edge: dict[tuple[int, int], float] = {}
    for a, b, value in zip(*np.sort(edges[:, inside], axis=0).tolist(), cost[inside].tolist(), strict=True):
        lightest_edge[a, b] = min(value, lightest_edge.get((a, b), np.inf))
    if not lightest_edge:
        return 0.0
    rows, columns = np.array(list(lightest_edge)).T
    tree = minimum_spanning_tree(coo_array((list(lightest_edge.values()), (rows, columns)), shape=(count, count)))
    return float(tree.data.max(initial=0))


def table_with_box(spacing: float = 0.01, noise: float = 0.0005) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) of a table top and the three faces of a box on it that a camera at (1, 1, 1.5) sees; 0 or 1."""
    u, v = (axis.ravel() for axis in np.meshgrid(np.arange(0, 0.6, spacing), np.arange(0, 0.6, spacing)))
    free = (u > 0.4) | (v > 0.4)
    table = np.column_stack([u, v, np.zeros_like(u)])[free]
    side = np.arange(spacing / 2, 0.2, spacing)
    a, b = (axis.ravel() for axis in np.meshgrid(np.arange(0.2, 0.4, spacing), side))
    full = np.full_like(a, 0.4)
    top = np.column_stack([a, b + 0.2, np.full_like(a, 0.2)])
    faces = [top, np.column_stack([full, a, b]), np.column_stack([a, full, b])]
    points = np.concatenate([table, *faces]) + np.random.default_rng(0).normal(0, noise, (len(table) + 3 * len(a), 3))
    return points.astype(np.float32), np.repeat([0, 1], [len(table), 3 * len(a)])


def test_each_neighbour_is_one_edge() -> None:
    points = np.random.default_rng(0).random((60, 3)).astype(np.float32)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = {
        (min(a, int(b)), max(a, int(b)))
        for a in range(60)
        for b in np.argsort(distance[a])[1:6]
        if distance[a, b] < 0.3
    }

    edges = neighbour_edges(points, 5, 0.3)

    found = [tuple(sorted(edge)) for edge in edges.T.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_a_cloud_without_neighbours_has_no_edges(count: int) -> None:
    points = np.zeros((count, 3), np.float32)

    assert neighbour_edges(points, 5, 0.3).shape == (2, 0)
    assert superpoints(points, points, None, SETTINGS).tolist() == [0] * count


def test_lightest_edges_and_joined_parts_equal_a_loop() -> None:
    edges, _ = random_graph(3, 20, 30)
    first = [next((i for i, edge in enumerate(edges.T) if node in edge), edges.shape[1]) for node in range(20)]
    name = list(range(20))
    for a, b in edges[:, :9].T.tolist():
        name = [name[a] if one == name[b] else one for one in name]

    assert lightest(20, edges).tolist() == first
    both = np.unique(np.column_stack([joined(20, edges[:, :9]), name]), axis=0)
    assert len(both) == len(set(name)) == joined(20, edges[:, :9]).max() + 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("coarseness", [0.05, 0.3, 1.0])
def test_no_two_parts_should_have_been_one(seed: int, coarseness: float) -> None:
    """The division is not too fine (Felzenszwalb and Huttenlocher, definition 1), and its parts are connected."""
    edges, cost = random_graph(seed)

    parts = divide(40, edges, cost, coarseness)

    assert sorted(set(parts.tolist())) == list(range(parts.max() + 1))
    members = [np.flatnonzero(parts == part) for part in range(parts.max() + 1)]
    bound = [inner_cost(part, edges, cost, 40) + coarseness / len(part) for part in members]
    for (a, b), value in zip(parts[edges].T.tolist(), cost.tolist(), strict=True):
        assert a == b or value > min(bound[a], bound[b]) - 1e-6
    inside = edges[:, parts[edges[0]] == parts[edges[1]]]
    assert joined(40, inside).max() == parts.max()


def test_coarser_divisions_have_fewer_parts() -> None:
    edges, cost = random_graph(1)

    counts = [divide(40, edges, cost, coarseness).max() for coarseness in (0.0, 0.2, 1.0, 100.0)]

    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 39


def test_small_parts_join_where_it_costs_least() -> None:
    chain = np.array([[4, 0, 1, 2, 3], [5, 1, 2, 3, 4]], np.int32)  # 4-5 costs least, 3-4 most
    parts = np.array([0, 0, 0, 1, 2, 2], np.int32)

    assert without_small(parts, chain, 2).tolist() == [0, 0, 0, 0, 1, 1]
    assert without_small(parts, chain, 10).tolist() == [0] * 6
    assert without_small(parts, chain[:, :3], 10).tolist() == parts.tolist(), "nothing leads out of them"


def test_concave_edges_cost_more_than_convex_ones() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0]], np.float32)
    apart, towards = (np.array([[-s, 0, 1], [s, 0, 1]], np.float32) / np.sqrt(2) for s in (1, -1))
    edge = np.array([[0], [1]], np.int32)

    convex, concave = (edge_costs(points, normals, None, edge, SETTINGS)[0] for normals in (apart, towards))

    assert concave == pytest.approx(SETTINGS.bend)
    assert convex == pytest.approx(SETTINGS.bend * SETTINGS.convex)


def test_a_box_on_a_table_shares_no_superpoint_with_it() -> None:
    points, truth = table_with_box()
    normals = estimate_normals(points, SETTINGS.normal_neighbours, (1, 1, 1.5))

    labels = superpoints(points, normals, None, SETTINGS)

    figures = superpoint_figures(labels, truth)
    assert figures["undersegmentation"] < 2
    assert figures["oversegmentation"] < 15


def test_colour_parts_a_plane() -> None:
    u, v = (axis.ravel() for axis in np.meshgrid(np.arange(40), np.arange(40)))
    points = np.column_stack([u, v, 0 * u]).astype(np.float32) / 100
    colors = np.where(u[:, None] < 20, (200, 30, 30), (30, 30, 200)).astype(np.uint8)
    normals = np.broadcast_to(np.float32([0, 0, 1]), points.shape)

    assert superpoints(points, normals, None, SETTINGS).max() == 0
    labels = superpoints(points, normals, colors, SETTINGS)

    assert labels.max() == 1
    assert superpoint_figures(labels, (u < 20).astype(int))["undersegmentation"] == 0


def test_what_is_no_cloud_is_refused() -> None:
    points = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"\(N, 3\) in metres"):
        superpoints(points[:, :2], points, None, SETTINGS)
    with pytest.raises(ValueError, match="normals and colours of that shape"):
        superpoints(points, points[:3], None, SETTINGS)
    with pytest.raises(ValueError, match="finite"):
        superpoints(points + np.float32(np.nan), points, None, SETTINGS)


def test_a_voxel_keeps_the_mean_of_its_points() -> None:
    points = np.array([[0.1, 0.1, 0.1], [-0.5, 0, 0], [0.3, 0.1, 0.1]], np.float32)

    thinned = Thinned.of(points, 0.4)

    assert thinned.rows[0] == thinned.rows[2] != thinned.rows[1]
    np.testing.assert_allclose(thinned.points[thinned.rows[0]], [0.2, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(thinned.mean(np.uint8([[2], [9], [4]]))[thinned.rows], [[3], [9], [3]])
    with pytest.raises(ValueError, match="are they metres"):
        Thinned.of(points * 1e8, 0.4)
