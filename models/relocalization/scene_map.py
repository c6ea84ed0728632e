# SPDX-License-Identifier: Apache-2.0
"""The map of a scene: built from posed images, kept in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perception_models.geometry.cameras import RgbdFrame
from perception_models.relocalization.features import load_extractor
from perception_models.relocalization.held_out import held_out_accuracy
from perception_models.relocalization.landmarks import Landmarks, fuse
from perception_models.relocalization.map_file import read_map, write_map
from perception_models.relocalization.settings import FixSettings, MapSettings
from perception_models.relocalization.tracking import track
from perception_models.relocalization.views import View, observe


@dataclass(frozen=True)
class SceneMap:
    """features: name of the extractor it was built with; network: ONNX bytes of a network trained for the scene, or
    none; figures: its accuracy on views that were left out (see held_out.py)."""

    features: str
    landmarks: Landmarks
    network: bytes = b""
    figures: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def build(
        frames: Iterable[RgbdFrame], features: str = "xfeat", settings: MapSettings | None = None, check: bool = True
    ) -> SceneMap:
        """Build from frames with poses, camera -> map, and depth. `check` measures the accuracy, which takes as long as
        the map itself. Raises ValueError where the frames give no landmarks."""
        settings = settings or MapSettings()
        extractor = load_extractor(features, settings.key_points)
        return SceneMap.from_views([observe(frame, extractor) for frame in frames], features, settings, check)

    @staticmethod
    def from_views(
        views: list[View], features: str, settings: MapSettings | None = None, check: bool = True
    ) -> SceneMap:
        """Build from views whose key points `features` found and whose depths are known. Raises ValueError as build."""
        settings = settings or MapSettings()
        landmarks = fuse(views, track(views, settings), settings) if views else None
        if landmarks is None or not len(landmarks):
            raise ValueError(
                f"{len(views)} frames gave no landmark: at least {settings.min_views} frames must show the same "
                "surfaces, with texture, depth and a pose in one world"
            )
        figures = held_out_accuracy(views, settings, FixSettings()) if check else {}
        return SceneMap(features, landmarks, figures=figures)

    def save(self, path: Path | str) -> Path:
        """Write the file, whole or not at all -> its path."""
        return write_map(Path(path), self.features, self.landmarks, self.network, self.figures)

    @staticmethod
    def load(path: Path | str) -> SceneMap:
        """Read a file. Raises BadMap where it is missing, damaged, or of another version."""
        return SceneMap(*read_map(Path(path)))
