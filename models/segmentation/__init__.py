# SPDX-License-Identifier: Apache-2.0
"""Instances in clouds from masks in views: a promptable model in 2D, super-points, a graph and its cut in 3D."""

from perception_models.segmentation.instances import Instances
from perception_models.segmentation.pipeline import Segmenter
from perception_models.segmentation.predictor import ManyMasks, MaskPredictor, Masks

__all__ = ["Instances", "ManyMasks", "MaskPredictor", "Masks", "Segmenter"]
