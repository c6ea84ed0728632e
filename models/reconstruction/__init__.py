# SPDX-License-Identifier: Apache-2.0
"""Dense reconstruction from a stream of images, one by one, with a state of fixed size (CUT3R)."""

from perception_models.reconstruction.cloud_map import CloudMap
from perception_models.reconstruction.online_settings import OnlineSettings
from perception_models.reconstruction.pipeline import Reconstructor
from perception_models.reconstruction.view import View

__all__ = ["CloudMap", "OnlineSettings", "Reconstructor", "View"]
