# SPDX-License-Identifier: Apache-2.0
"""Single-object tracking: the box of an object in every later scan, from its box in one."""

from perception_models.tracking.pipeline import MultiTracker, Tracker
from perception_models.tracking.state import TrackState
from perception_models.tracking.target import Target

__all__ = ["MultiTracker", "Target", "TrackState", "Tracker"]
