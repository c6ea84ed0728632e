# SPDX-License-Identifier: Apache-2.0
"""LiDAR 3D detection: boxes of vehicles, pedestrians and cyclists from one scan."""

from perception_models.detection.pipeline import Detections, Detector

__all__ = ["Detections", "Detector"]
