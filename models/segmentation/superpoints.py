# SPDX-License-Identifier: Apache-2.0
"""Super-points: parts of a cloud that belong to one surface of one thing.

The graph of nearest neighbours is divided where normals or colours change; concave edges, which part things, cost more
than convex ones, which are inside them (Stein et al., Object Partitioning using Local Convexity, CVPR 2014).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_models.segmentation.graph_parts import Indices, divide, joined, lightest
from perception_models.segmentation.neighbours import Floats, neighbour_edges
from perception_models.segmentation.settings import SegmentationSettings

Colors = npt.NDArray[np.uint8]
WHITE = 441.7  # distance from black to white


def superpoints(
    points: Floats,
    normals: Floats,
    colors: Colors | None,
    settings: SegmentationSettings,
    edges: Indices | None = None,
    threads: int = 1,
) -> Indices:
    """Super-point (N,) int32, 0..S-1, of each point (N, 3) with its normal (N, 3) and colour (N, 3).

    edges: the neighbour graph (2, E), where it is known already. Raises ValueError where lengths differ or a point is
    not finite.
    """
    check_cloud(points, normals, colors)
    if edges is None:
        edges = neighbour_edges(points, settings.neighbours, settings.reach, threads)
    cost = edge_costs(points, normals, colors, edges, settings)
    order = np.argsort(cost)
    edges, cost = edges[:, order], cost[order]
    parts = divide(len(points), edges, cost, settings.coarseness)
    return without_small(parts, edges, settings.min_points)


def edge_costs(
    points: Floats, normals: Floats, colors: Colors | None, edges: Indices, settings: SegmentationSettings
) -> Floats:
    """Cost (E,) of edges (2, E): 1 - cosine of the normals, less where convex, and what colours differ."""
    shades = np.zeros_like(points) if colors is None else colors * np.float32(settings.colour / WHITE)
    rows = np.hstack([normals, points, shades])  # one look-up an end
    difference = rows[edges[1]] - rows[edges[0]]
    turn, step, shade = difference[:, :3], difference[:, 3:6], difference[:, 6:]
    bend = np.einsum("ei,ei->e", turn, turn) / 2
    opens = np.einsum("ei,ei->e", turn, step) > 0
    cost = settings.bend * bend * np.where(opens, np.float32(settings.convex), np.float32(1))
    return np.asarray(cost + np.sqrt(np.einsum("ei,ei->e", shade, shade)), np.float32)


def without_small(parts: Indices, edges: Indices, min_points: int) -> Indices:
    """Parts (N,) of which those of fewer points have joined the neighbour to which the first of the edges (2, E), by
    rising cost, leads; lone ones stay."""
    bridges = parts[edges]
    while True:
        small = np.bincount(parts) < min_points
        bridges = bridges[:, (bridges[0] != bridges[1]) & (small[bridges[0]] | small[bridges[1]])]
        if not bridges.size:
            return parts
        first = lightest(len(small), bridges)
        name = joined(len(small), bridges[:, first[small & (first < bridges.shape[1])]])
        parts, bridges = name[parts], name[bridges]


def check_cloud(points: Floats, normals: Floats, colors: Colors | None) -> None:
    """Raise ValueError for a cloud that cannot be divided."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points are (N, 3) in metres, got {points.shape}")
    if normals.shape != points.shape or (colors is not None and colors.shape != points.shape):
        shapes = normals.shape, None if colors is None else colors.shape
        raise ValueError(f"{points.shape} points need normals and colours of that shape, got {shapes}")
    if not (np.isfinite(points).all() and np.isfinite(normals).all()):
        raise ValueError("points and normals must be finite: leave out what the sensor did not measure")
