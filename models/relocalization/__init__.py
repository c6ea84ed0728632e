# SPDX-License-Identifier: Apache-2.0
"""A camera finds itself in a known place: `SceneMap.build(frames).save(path)`, then
`Relocalizer(SceneMap.load(path)).localize(image, camera_matrix)`."""

from perception_models.relocalization.fix import Fix
from perception_models.relocalization.map_file import BadMap
from perception_models.relocalization.pipeline import Relocalizer
from perception_models.relocalization.scene_map import SceneMap

__all__ = ["BadMap", "Fix", "Relocalizer", "SceneMap"]
