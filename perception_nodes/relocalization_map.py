# SPDX-License-Identifier: Apache-2.0
"""The relocalizer of a node, whose map can be exchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Matrix
from perception_models.relocalization import Fix, Relocalizer, SceneMap
from perception_nodes.interfaces import Model


class AnyRelocalizer(Model, Protocol):
    """What the node needs of a relocalizer; tests give one of their own."""

    @property
    def scene_map(self) -> SceneMap:
        """The map."""
        ...

    def localize(self, image: NDArray[np.uint8], camera_matrix: Matrix, prior: Matrix | None = None) -> Fix:
        """The camera's pose in the map."""
        ...


class SwitchableRelocalizer:
    """One relocalizer at a time."""

    def __init__(self, first: AnyRelocalizer) -> None:
        self._current = first

    @property
    def scene_map(self) -> SceneMap:
        """The map in use."""
        return self._current.scene_map

    @property
    def engine_info(self) -> Any:
        """Facts of what finds the features."""
        return self._current.engine_info

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last call by stage."""
        return self._current.timing

    def localize(self, image: NDArray[np.uint8], camera_matrix: Matrix, prior: Matrix | None = None) -> Fix:
        """The camera's pose in the map in use."""
        return self._current.localize(image, camera_matrix, prior)

    def switch(self, other: AnyRelocalizer) -> None:
        """Takes another one in and closes the former. The caller sees to it that no image is being looked for."""
        former, self._current = self._current, other
        former.close()

    def close(self) -> None:
        """Closes the one in use."""
        self._current.close()


def load_relocalizer(map_file: str, method: str, threads: int) -> AnyRelocalizer:
    """The relocalizer of a map; 0 threads let the engine choose.

    Raises ValueError where no file is named or the map has no scale, BadMap where it cannot be read.
    """
    if not map_file:
        raise ValueError("map_file is empty: build a map with `perception map build` and name its file")
    scene_map = SceneMap.load(Path(map_file))
    if not scene_map.is_metric:
        raise ValueError(f"{map_file} is not in metres: it was built without poses and depth; build it with either")
    return Relocalizer(scene_map, method, threads or None)
