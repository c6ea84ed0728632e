# SPDX-License-Identifier: Apache-2.0
"""From key points to a pose in the map, and whether to believe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix
from perception_models.relocalization.assignment import Indices
from perception_models.relocalization.features import Floats
from perception_models.relocalization.landmarks import Landmarks
from perception_models.relocalization.matching import Query, guided_matches, mutual_matches
from perception_models.relocalization.pose import MatchedLines, PoseEstimate, covariance, estimate_pose, spread
from perception_models.relocalization.segments import match_segments, segments_of
from perception_models.relocalization.settings import FixSettings


@dataclass(frozen=True)
class Fix:
    """pose (4, 4) float64, camera -> map (optical frame: z forward); use it only where `valid`, else `reason` says why
    not. inliers: matches that fit the pose; covariance (6, 6): place (m), then rotation (rad), about the map's axes."""

    pose: Matrix
    valid: bool
    inliers: int
    covariance: Matrix
    reason: str = ""


def no_fix(reason: str) -> Fix:
    """What is returned where there is no pose: everything about it is unknown."""
    return Fix(np.full((4, 4), np.nan), False, 0, np.full((6, 6), np.inf), reason)


def find(query: Query, landmarks: Landmarks, settings: FixSettings, prior: Matrix | None = None) -> Fix:
    """The query's pose among landmarks. A prior pose, camera -> map, narrows what is matched first; where that gives no
    valid fix, the whole map is tried."""
    if prior is not None:
        near = landmarks.seen_by(landmarks.nearest_views(prior, settings.prior_views))
        fix = refine(query, landmarks, settings, first_guess(query, landmarks, settings, near))
        if fix.valid:
            return fix
    among = np.arange(min(len(landmarks), settings.first_landmarks))
    return refine(query, landmarks, settings, first_guess(query, landmarks, settings, among))


def first_guess(query: Query, landmarks: Landmarks, settings: FixSettings, among: Indices) -> PoseEstimate | None:
    """Pose by descriptors alone, from the best key points and the landmarks `among` (K,)."""
    best = query.features.descriptors[: settings.first_points]
    key_points, rows = mutual_matches(best, landmarks.descriptors[among], settings.min_similarity)
    pixels, points = query.features.points[key_points], landmarks.positions[among[rows]]
    return estimate_pose(pixels, points, query.camera_matrix, settings.max_error)


def refine(query: Query, landmarks: Landmarks, settings: FixSettings, guess: PoseEstimate | None) -> Fix:
    """Match all key points once more, to what the map views near the guess saw, and judge the pose that comes of it.

    Few and near views agree with the query best, because where the map's poses drift they drifted alike; more of them
    come before, because the first guess may be off.
    """
    if guess is None:
        return no_fix("nothing in the image matches the map")
    estimate: PoseEstimate | None = guess
    for views, radius in settings.rounds:
        if estimate is None:
            break
        visible = landmarks.seen_by(landmarks.nearest_views(estimate.pose, views))
        key_points, found = guided_matches(query, landmarks, visible, estimate.pose, radius, settings.guide_similarity)
        pixels, points = query.features.points[key_points], landmarks.positions[found]
        estimate = estimate_pose(pixels, points, query.camera_matrix, settings.max_error, estimate.pose)
    if estimate is not None and query.lines is not None:
        lines = expected_lines(query, landmarks, estimate.pose, settings)
        estimate = estimate_pose(pixels, points, query.camera_matrix, settings.max_error, estimate.pose, lines)
    if estimate is None:
        return no_fix("the map does not confirm the first guess")
    return judge(query, pixels, points, estimate, settings)


def expected_lines(query: Query, landmarks: Landmarks, pose: Matrix, settings: FixSettings) -> MatchedLines | None:
    """The query's lines matched to the map's, near where a pose, camera -> map, expects them."""
    if query.lines is None or not len(query.lines) or not len(landmarks.lines):
        return None
    seen, places = segments_of(query.lines), se3.apply(se3.inverse(pose), landmarks.lines.ends)
    rows, found = match_segments(
        seen, places, landmarks.lines.descriptors, query.camera_matrix, settings.line_radius, settings.guide_similarity
    )
    return MatchedLines(seen.ends[rows], landmarks.lines.ends[found], settings.max_line_error)


def judge(query: Query, pixels: Floats, points: Floats, estimate: PoseEstimate, settings: FixSettings) -> Fix:
    """The fix of a pose that was estimated from matched pixels (M, 2) and map points (M, 3)."""
    fitting = estimate.inliers
    uncertainty = covariance(pixels[fitting], points[fitting], query.camera_matrix, estimate.pose)
    reason = doubt(pixels, fitting, query.size, settings)
    return Fix(estimate.pose, not reason, int(fitting.sum()), uncertainty, reason)


def doubt(pixels: Floats, inliers: NDArray[np.bool_], size: tuple[int, int], settings: FixSettings) -> str:
    """Why a pose should not be believed, or nothing. `inliers` (M,) marks which of the matched pixels (M, 2) fit it."""
    count, covered = int(inliers.sum()), spread(pixels[inliers], *size)
    if count < settings.min_inliers:
        return f"{count} matches fit the pose; {settings.min_inliers} are needed"
    if inliers.mean() < settings.min_share:
        return f"{inliers.mean():.0%} of the matches fit the pose; {settings.min_share:.0%} are needed"
    if covered < settings.min_spread:
        return f"the matches cover {covered:.0%} of the image; {settings.min_spread:.0%} are needed"
    return ""
