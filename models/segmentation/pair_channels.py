# SPDX-License-Identifier: Apache-2.0
"""What is known of pairs of super-points, as numbers that a score of them is made of. Up plays no part in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from perception_models.segmentation.graph import SuperpointGraph

Floats = npt.NDArray[np.float32]
SURFACE = (
    "touches",
    "concave",  # roots of how much the surface bends where both touch, inwards
    "convex",  # and outwards
    "border",  # logarithm of the neighbours across
    "colour",  # difference of the mean colours, of black and white
    "colour_root",
    "gap",  # of the largest at which two are a pair
    "smaller",  # logarithms of the points of both
    "larger",
    "parallel",  # cosine of the mean normals
    "outwards",  # how far the normals point away from each other
    "outwards_touching",
    "span",  # m, between the centres
)
VIEWED = (*SURFACE, "agreement")


def surface_channels(graph: SuperpointGraph) -> Floats:
    """Of every edge (E, len(SURFACE)) what surface and colour say, without views."""
    nodes, contacts, (one, other) = graph.nodes, graph.contacts, graph.edges.T
    touches = contacts.length > 0
    normals = unit(nodes.normals)
    apart = nodes.centres[other] - nodes.centres[one]
    outwards = np.einsum("ei,ei->e", normals[other] - normals[one], unit(apart)) / 2
    shade = np.linalg.norm(nodes.colors[one] - nodes.colors[other], axis=1)
    size = np.log1p(np.sort(nodes.size[graph.edges], axis=1))
    columns = [
        touches,
        touches * np.sqrt(contacts.bend * (1 - contacts.convex)),
        touches * np.sqrt(contacts.bend * contacts.convex),
        touches * np.log1p(contacts.length),
        shade,
        np.sqrt(shade),
        graph.distance / graph.settings.near,
        *size.T,
        np.einsum("ei,ei->e", normals[one], normals[other]),
        outwards,
        touches * outwards,
        np.linalg.norm(apart, axis=1),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def unit(vectors: Floats) -> Floats:
    """Vectors (N, 3) at length 1; 0 stays 0."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6), np.float32)
