# SPDX-License-Identifier: Apache-2.0
"""The relocalizer that nodes, evaluation and tests call: an image in, a pose in the map out. No torch."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from perception_models.geometry.cameras import Matrix
from perception_models.relocalization.features import FeatureExtractor, Image, load_extractor
from perception_models.relocalization.fix import Fix, Query, find, no_fix
from perception_models.relocalization.scene_map import SceneMap
from perception_models.relocalization.settings import FixSettings
from perception_models.runtime import EngineInfo

METHODS = ("landmarks",)


class Relocalizer:
    """Finds a camera in a mapped scene."""

    def __init__(
        self,
        scene_map: SceneMap,
        method: str = "landmarks",
        threads: int | None = None,
        settings: FixSettings | None = None,
        extractor: FeatureExtractor | None = None,
    ) -> None:
        """Load what the map's features need. Raises ValueError for an unknown method, else as load_extractor."""
        if method not in METHODS:
            raise ValueError(f"method '{method}' is unknown; known are {', '.join(METHODS)}")
        self.scene_map = scene_map
        self.settings = settings or FixSettings()
        self.timing: dict[str, float] = {}
        self._extractor = extractor or load_extractor(scene_map.features, threads=threads)
        self._trust = scene_map.figures.get("covariance_scale", 1.0)

    @property
    def engine_info(self) -> EngineInfo:
        """What finds the features."""
        return self._extractor.engine_info

    def localize(self, image: Image, camera_matrix: Matrix, prior: Matrix | None = None) -> Fix:
        """The camera's pose from an undistorted image (H, W, 3) uint8 RGB and its camera matrix (3, 3).

        prior: a pose (4, 4), camera -> map, near which to look first; never needed. What cannot be found is a Fix that
        is not valid and says why. Raises ValueError for another shape or type, or a matrix that is no camera.
        """
        check_camera(camera_matrix)
        began = time.perf_counter()
        features = self._extractor.extract(image)
        extracted = time.perf_counter()
        fix = self._find(Query(features, np.asarray(camera_matrix, np.float64), image.shape[1::-1]), prior)
        done = time.perf_counter()
        self.timing = {"features": 1e3 * (extracted - began), "pose": 1e3 * (done - extracted)}
        return fix

    def _find(self, query: Query, prior: Matrix | None) -> Fix:
        if not len(query.features):
            return no_fix("the image has no key points: it is blank, dark or blurred")
        fix = find(query, self.scene_map.landmarks, self.settings, prior)
        return replace(fix, covariance=fix.covariance * self._trust)

    def close(self) -> None:
        """Free what the features hold; the relocalizer cannot be used afterwards."""
        self._extractor.close()


def check_camera(camera_matrix: Matrix) -> None:
    """Raise ValueError for what is not the matrix (3, 3) of a pinhole camera."""
    matrix = np.asarray(camera_matrix)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ValueError(f"a camera matrix is (3, 3) with focal lengths above 0, got {matrix.tolist()}")
