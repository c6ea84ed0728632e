# SPDX-License-Identifier: Apache-2.0
"""The relocalizer that nodes, evaluation and tests call: an image in, a pose in the map out. No torch."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from perception_models.geometry.cameras import Matrix, check_camera
from perception_models.relocalization.features import FeatureExtractor, Image, load_extractor
from perception_models.relocalization.fix import Fix, find, no_fix
from perception_models.relocalization.lines import detect_lines
from perception_models.relocalization.matching import Query
from perception_models.relocalization.network_fix import find_by_network
from perception_models.relocalization.scene_map import SceneMap
from perception_models.relocalization.scene_network import SceneNetwork
from perception_models.relocalization.settings import FixSettings
from perception_models.runtime import EngineInfo

METHODS = ("landmarks", "network", "network+landmarks")  # the last: the network proposes, landmarks refine


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
        self.method = method
        self.settings = settings or FixSettings()
        self.timing: dict[str, float] = {}
        self._extractor = extractor or load_extractor(scene_map.features, threads=threads)
        self._network = None if method == "landmarks" else load_network(scene_map, threads)
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
        lines = detect_lines(image, features) if self.scene_map.has_lines else None
        extracted = time.perf_counter()
        fix = self._find(Query(features, np.asarray(camera_matrix, np.float64), image.shape[1::-1], lines), prior)
        done = time.perf_counter()
        self.timing = {"features": 1e3 * (extracted - began), "pose": 1e3 * (done - extracted)}
        return fix

    def _find(self, query: Query, prior: Matrix | None) -> Fix:
        if not len(query.features):
            return no_fix("the image has no key points: it is blank, dark or blurred")
        fix = self._find_by_method(query, prior)
        return replace(fix, covariance=fix.covariance * self._trust)

    def _find_by_method(self, query: Query, prior: Matrix | None) -> Fix:
        landmarks = self.scene_map.landmarks
        if self._network is None:
            return find(query, landmarks, self.settings, prior)
        refined = landmarks if self.method == "network+landmarks" else None
        return find_by_network(query, self._network, self.settings, refined)

    def close(self) -> None:
        """Free what the features hold; the relocalizer cannot be used afterwards."""
        self._extractor.close()
        if self._network is not None:
            self._network.close()


def load_network(scene_map: SceneMap, threads: int | None) -> SceneNetwork:
    """The map's network. Raises ValueError where it has none."""
    if not scene_map.network:
        raise ValueError("the map has no network; train one with `perception map build --network`, or use landmarks")
    return SceneNetwork.from_bytes(scene_map.network, threads)
