# SPDX-License-Identifier: Apache-2.0
"""Perception models without ROS: pipelines, networks, simulation and evaluation (installed as `perception_models`)."""
