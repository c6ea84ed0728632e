# SPDX-License-Identifier: Apache-2.0
"""Single-object tracking: the box of an object in every later scan, from its box in one."""

from perception_models.tracking.pipeline import MultiTracker, Target, Tracker, TrackState

__all__ = ["MultiTracker", "Target", "TrackState", "Tracker"]
