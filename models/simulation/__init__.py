# SPDX-License-Identifier: Apache-2.0
"""Worlds with truth: streets with traffic seen by a simulated LiDAR."""

from perception_models.simulation.frame import LidarFrame
from perception_models.simulation.sensors import SENSORS, Lidar

__all__ = ["SENSORS", "Lidar", "LidarFrame"]
