# SPDX-License-Identifier: Apache-2.0
"""What a map is built with, and what a fix must fulfil."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MapSettings:
    """How landmarks are made from views. Pixels are those of the images, lengths are metres."""

    key_points: int = 1024  # an image
    merge_pixels: float = 2.5  # a landmark is seen again within this distance of where it is expected,
    merge_depth: float = 0.02  # within this share of its depth,
    merge_similarity: float = 0.75  # and with at least this cosine between descriptors
    min_views: int = 2  # landmarks seen less often are dropped
    max_landmarks: int = 40_000  # the most often seen are kept
    lines: bool = False  # also of line segments, which are
    merge_line_pixels: float = 4.0  # seen again where both ends are so near to where the segment is expected,
    merge_line_depth: float = 0.05  # within this share of its depth
    max_lines: int = 4_000


@dataclass(frozen=True)
class FixSettings:
    """How an image is matched to the map, and what makes a pose valid."""

    first_points: int = 512  # best key points, matched by descriptor alone
    first_landmarks: int = 12_000  # to the landmarks that most views saw
    min_similarity: float = 0.6  # cosine between descriptors
    # Then, round after round: how many map views nearest to the pose so far have their landmarks matched, and how many
    # pixels from where that pose expects them.
    rounds: tuple[tuple[int, float], ...] = ((20, 12.0), (5, 8.0))
    # Near an expected place something always looks a little alike: in images of other places up to 116 matches with a
    # cosine of 0.6 fitted a pose, but at most 20 of them had 0.8, where an image of the place had 63 or more.
    guide_similarity: float = 0.8
    prior_views: int = 40  # map views nearest to a prior pose, whose landmarks are matched first
    line_radius: float = 8.0  # pixels from where the pose expects it, of both ends of a line,
    max_line_error: float = 3.0  # and of an inlier
    max_error: float = 6.0  # pixels, of an inlier
    min_inliers: int = 40
    min_share: float = 0.3  # of the guided matches that are inliers
    min_spread: float = 0.15  # of the image, see pose.spread
