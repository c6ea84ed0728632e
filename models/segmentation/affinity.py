# SPDX-License-Identifier: Apache-2.0
"""Runs the affinity network on a graph of super-points. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.runtime import Engine, load_engine
from perception_models.segmentation.affinity_input import AffinityInput
from perception_models.segmentation.graph import SuperpointGraph, chance
from perception_models.segmentation.pair_scores import PairScores

Floats = npt.NDArray[np.float32]
WEIGHTS = Path(__file__).parent / "weights" / "affinity"


class AffinityModel:
    """The network that scores pairs of super-points. Get one with `AffinityModel.load(...)`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._slots = int(engine.facts.inputs["mask"].shape[1])

    @staticmethod
    def load(folder: Path = WEIGHTS, backend: str = "auto", threads: int | None = None) -> AffinityModel:
        """Load a folder of `affinity_train.export`. Raises as load_engine."""
        return AffinityModel(load_engine(folder, backend=backend, threads=threads))

    def affinity(self, graph: SuperpointGraph) -> Floats:
        """How likely both ends of each edge are of one thing (E,), 0 to 1.

        A graph beyond the network's capacity keeps its own affinity: half of it heard would be worse than none.
        """
        capacity = self.engine.facts.capacity["superpoints"]
        if not 0 < len(graph) <= capacity or not len(graph.edges):
            return graph.affinity
        prepared = AffinityInput.of(graph, self._slots)
        rows = capacity if self.engine.pads_to_capacity else len(graph)
        padded = {name: _padded(tensor, rows) for name, tensor in prepared.tensors.items()}
        odds = self.engine(**padded)["odds"][: len(graph)]
        return chance(prepared.gathered(odds, PairScores.shipped()(graph)))

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def _padded(tensor: npt.NDArray[np.generic], rows: int) -> npt.NDArray[np.generic]:
    return np.pad(tensor, [(0, rows - len(tensor)), *[(0, 0)] * (tensor.ndim - 1)])
