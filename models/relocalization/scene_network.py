# SPDX-License-Identifier: Apache-2.0
"""Runs the network of a scene: descriptors of an image -> places in the map. No torch."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from perception_models.relocalization.features import Floats
from perception_models.runtime import BadWeights, Engine, load_engine

FILES = {"model.onnx", "model.yaml"}


@dataclass(frozen=True)
class SceneCoordinates:
    """K places for each of N points, likeliest first: points (N, K, 3) in the map, metres, reliability (N, K), 0..1;
    the same for both ends of each of L lines: lines (L, 2, K, 3), line_reliability (L, 2, K)."""

    points: Floats
    reliability: Floats
    lines: Floats
    line_reliability: Floats

    def best_points(self, count: int) -> tuple[NDArray[np.int64], Floats]:
        """The `count` most reliable places: which points (M,) they belong to, and where they are (M, 3). A point may
        come with more than one place: robust estimation finds out which holds."""
        chosen = np.argsort(-self.reliability, axis=None, kind="stable")[:count]
        return chosen // self.reliability.shape[1], self.points.reshape(-1, 3)[chosen]

    def best_lines(self, count: int) -> tuple[NDArray[np.int64], Floats]:
        """The `count` lines whose ends are most reliable: which (M,), and their likeliest ends (M, 2, 3)."""
        chosen = np.argsort(-self.line_reliability[..., 0].min(-1), kind="stable")[:count]
        return chosen, self.lines[chosen, :, 0]


class SceneNetwork:
    """The network of one scene. Get one with `SceneNetwork.from_bytes(...)`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dimensions = int(engine.facts.inputs["descriptors"].shape[1])
        self._tokens = int(engine.facts.inputs["line_tokens"].shape[1])

    @staticmethod
    def from_bytes(content: bytes, threads: int | None = None, backend: str = "auto") -> SceneNetwork:
        """Load what `train_scene` returned. Raises BadWeights where it is damaged."""
        with TemporaryDirectory() as folder:
            try:
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    if set(archive.namelist()) != FILES:
                        raise BadWeights(f"the map's network holds {archive.namelist()}; expected are {sorted(FILES)}")
                    archive.extractall(folder)
            except zipfile.BadZipFile as error:
                raise BadWeights(f"the map's network is damaged ({error}); build the map again") from error
            return SceneNetwork(load_engine(Path(folder), backend=backend, threads=threads))

    def predict(self, descriptors: Floats, line_tokens: Floats | None = None) -> SceneCoordinates:
        """Places of key points with unit descriptors (N, D) and of lines described by samples (L, 12, D).

        Raises ValueError for another D or more points or lines than the network's capacity.
        """
        if descriptors.ndim != 2 or descriptors.shape[1] != self.dimensions:
            raise ValueError(f"descriptors have shape {descriptors.shape}; this map's have (N, {self.dimensions})")
        if line_tokens is None:
            line_tokens = np.empty((0, self._tokens, self.dimensions), np.float32)
        points, point_weight = self._padded(descriptors, "points")
        lines, line_weight = self._padded(line_tokens, "lines")
        # A weight of zero everywhere has no mean; without any node there is nothing to hear either.
        point_weight[0] = max(point_weight[0], np.float32(1e-3))
        inputs = {"descriptors": points, "point_weight": point_weight}
        outputs = self.engine(**inputs, line_tokens=lines, line_weight=line_weight)
        n, m = len(descriptors), len(line_tokens)
        of_points, of_lines = (
            (outputs["points"], outputs["reliability"]),
            (outputs["lines"], outputs["line_reliability"]),
        )
        return SceneCoordinates(*(part[:n] for part in of_points), *(part[:m] for part in of_lines))

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def _padded(self, rows: Floats, axis: str) -> tuple[Floats, Floats]:
        """Rows with zeros behind them, one at least, all capacity where the backend wants that, and their weights."""
        capacity = self.engine.facts.capacity[axis]
        length = capacity if self.engine.pads_to_capacity else max(1, len(rows))
        padded = np.zeros((max(length, len(rows)), *rows.shape[1:]), np.float32)
        padded[: len(rows)] = rows
        weight: Floats = (np.arange(len(padded)) < len(rows)).astype(np.float32)
        return padded, weight
