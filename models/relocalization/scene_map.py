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
from perception_models.relocalization.reconstruction import completed
from perception_models.relocalization.settings import FixSettings, MapSettings
from perception_models.relocalization.tracking import track
from perception_models.relocalization.views import View, observe


@dataclass(frozen=True)
class SceneMap:
    """features: name of the extractor it was built with; network: ONNX bytes of a network trained for the scene, or
    none; figures: its accuracy on views that were left out (see held_out.py); is_metric: whether its unit is the metre,
    which neither poses nor depth told otherwise."""

    features: str
    landmarks: Landmarks
    network: bytes = b""
    figures: Mapping[str, float] = field(default_factory=dict)
    is_metric: bool = True

    @property
    def has_lines(self) -> bool:
        """Whether lines of an image help to find it."""
        return bool(len(self.landmarks.lines))

    @staticmethod
    def build(
        frames: Iterable[RgbdFrame], features: str = "xfeat", settings: MapSettings | None = None, check: bool = True
    ) -> SceneMap:
        """Build from frames; poses, camera -> map, and depths that they lack are reconstructed (see reconstruction.py).
        `check` measures the accuracy, which takes as long as the map itself. Raises ValueError where the frames give no
        landmarks, MissingColmap where pycolmap is needed and missing."""
        settings = settings or MapSettings()
        extractor = load_extractor(features, settings.key_points)
        views = [observe(frame, extractor, settings.lines) for frame in frames]
        return SceneMap.from_views(views, features, settings, check)

    @staticmethod
    def from_views(
        views: list[View], features: str, settings: MapSettings | None = None, check: bool = True
    ) -> SceneMap:
        """Build from views whose key points `features` found. Raises ValueError and MissingColmap as build."""
        settings = settings or MapSettings()
        views, is_metric = completed(views)
        landmarks = fuse(views, track(views, settings), settings) if views else None
        if landmarks is None or not len(landmarks):
            raise ValueError(
                f"{len(views)} frames gave no landmark: at least {settings.min_views} frames must show the same "
                "surfaces, with texture, depth and a pose in one world"
            )
        figures = held_out_accuracy(views, settings, FixSettings()) if check else {}
        return SceneMap(features, landmarks, figures=figures, is_metric=is_metric)

    def save(self, path: Path | str) -> Path:
        """Write the file, whole or not at all -> its path."""
        facts = {"features": self.features, "figures": dict(self.figures), "is_metric": self.is_metric}
        return write_map(Path(path), self.landmarks, self.network, facts)

    @staticmethod
    def load(path: Path | str) -> SceneMap:
        """Read a file. Raises BadMap where it is missing, damaged, or of another version."""
        landmarks, network, facts = read_map(Path(path))
        return SceneMap(facts["features"], landmarks, network, facts["figures"], facts["is_metric"])
