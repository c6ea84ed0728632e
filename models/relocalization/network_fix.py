# SPDX-License-Identifier: Apache-2.0
"""From the places that a scene's network proposes to a pose: alone, or as the first guess for landmarks to refine."""

from __future__ import annotations

from perception_models.relocalization.fix import Fix, judge, no_fix, refine
from perception_models.relocalization.landmarks import Landmarks
from perception_models.relocalization.matching import Query
from perception_models.relocalization.pose import MatchedLines, estimate_pose
from perception_models.relocalization.scene_network import SceneNetwork
from perception_models.relocalization.settings import FixSettings

POINTS = 512  # best key points that the network is asked about
PLACES = 600  # most reliable of their places that the pose is estimated from
LINES = 64  # most reliable lines, likewise


def find_by_network(
    query: Query, network: SceneNetwork, settings: FixSettings, landmarks: Landmarks | None = None
) -> Fix:
    """The query's pose from the places that the network gives to its key points and lines; with `landmarks` that pose
    is only the guess near which they are matched."""
    tokens = None if query.lines is None else query.lines.descriptors
    found = network.predict(query.features.descriptors[:POINTS], tokens)
    which, places = found.best_points(PLACES)
    pixels = query.features.points[which]
    lines = None
    if query.lines is not None:
        rows, ends = found.best_lines(LINES)
        lines = MatchedLines(query.lines.ends[rows], ends, settings.max_line_error)
    guess = estimate_pose(pixels, places, query.camera_matrix, settings.max_error, lines=lines)
    if landmarks is not None:
        return refine(query, landmarks, settings, guess)
    if guess is None:
        return no_fix("the places that the network proposes fit no pose")
    return judge(query, pixels, places, guess, settings)
