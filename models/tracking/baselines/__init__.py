# SPDX-License-Identifier: Apache-2.0
"""Trackers without learning, with the interface of MultiTracker, to compare with."""

from perception_models.tracking.baselines.association import Association
from perception_models.tracking.baselines.blind import Blind
from perception_models.tracking.baselines.candidates import ClusterCandidates, DetectionCandidates
from perception_models.tracking.baselines.separate import Separate

__all__ = ["Association", "Blind", "ClusterCandidates", "DetectionCandidates", "Separate"]
