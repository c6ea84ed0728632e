# SPDX-License-Identifier: Apache-2.0
"""How a cloud is cut into super-points, what a view may say of them, and how they are put together to instances."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentationSettings:
    """Lengths are metres, areas pixels of the view. Chosen on simulated rooms other than those that judge."""

    # Super-points
    voxel: float = 0.01  # edge, of which one point is kept
    neighbours: int = 8  # of a point, in the graph that is divided
    normal_neighbours: int = 20  # of a point, that give its normal
    reach: float = 0.1  # longer edges of that graph are left out
    bend: float = 1.0  # cost of a concave right angle,
    convex: float = 0.3  # and which part of it a convex one costs
    colour: float = 0.7  # cost of black beside white
    coarseness: float = 0.04  # Felzenszwalb's k: larger super-points
    min_points: int = 20  # smaller super-points join the neighbour that costs least

    # Views
    stride: int = 4  # every so many pixels of a row and of a column tell to which super-point they belong
    depth_margin: float = 0.03  # a point is seen where the depth image is not nearer by more than this,
    depth_share: float = 0.02  # and this share of its depth
    min_pixels: int = 150  # of a super-point that a view must show
    max_superpoints: int = 256  # that a view speaks of, the largest,
    max_prompts: int = 64  # and of these the largest prompt; all masks speak of all of them
    prompts: int = 5  # points a prompt
    stale: float = 0.5  # a pose is not believed where a view looks through more than this share of what it should see

    # Graph and cut
    near: float = 0.3  # super-points within this distance may be one instance
    threshold: float = 0.75  # affinity above which two are rather one than not
    min_instance: int = 50  # points; smaller groups are no instance
