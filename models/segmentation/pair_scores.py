# SPDX-License-Identifier: Apache-2.0
"""How likely two super-points are of one thing: two logistic fits, of what surfaces say and of that with masks.

Fitted to simulated rooms as `affinity_train` does it; how far masks agree is no probability before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from perception_models.segmentation.pair_channels import SURFACE, VIEWED, surface_channels

if TYPE_CHECKING:
    from perception_models.segmentation.graph import SuperpointGraph

Floats = npt.NDArray[np.float32]
FILE = Path(__file__).parent / "weights" / "affinity" / "pairs.json"
RIDGE, STEPS = 1e-3, 50
CERTAIN = 6.0  # log odds beyond which nobody is surer
BIAS = "bias"


@dataclass(frozen=True)
class Logistic:
    """Log odds as a weighted sum of channels; coefficients by name, in the channels' order, the bias last."""

    coefficients: dict[str, float]

    def __call__(self, channels: Floats) -> Floats:
        """Log odds (E,) of channels (E, F)."""
        *weights, bias = self.coefficients.values()
        return np.asarray(channels @ np.array(weights, np.float32) + bias, np.float32)

    @staticmethod
    def fit(names: tuple[str, ...], channels: Floats, labels: Floats, weights: Floats) -> Logistic:
        """The fit to channels (E, F) with labels (E,), 0 or 1, that count by weights (E,); Newton's method."""
        share = weights.astype(np.float64) / weights.sum()
        mean = share @ channels
        scale = np.sqrt(share @ (channels - mean) ** 2) + 1e-6
        rows = np.column_stack([(channels - mean) / scale, np.ones(len(channels))])
        ridge = RIDGE * np.diag([*np.ones(len(names)), 1e-6])
        found = np.zeros(len(names) + 1)
        for _ in range(STEPS):
            chance = 1 / (1 + np.exp(-rows @ found))
            slope = rows.T @ (share * (chance - labels)) + ridge @ found
            curve = (rows * (share * chance * (1 - chance))[:, None]).T @ rows + ridge
            found -= np.linalg.solve(curve, slope)
        slopes = found[:-1] / scale
        values = [*slopes, found[-1] - slopes @ mean]
        return Logistic({name: round(float(value), 4) for name, value in zip((*names, BIAS), values, strict=True)})


@dataclass(frozen=True)
class PairScores:
    """surface: of SURFACE channels, for pairs that no view showed; viewed: of VIEWED channels, for the others."""

    surface: Logistic
    viewed: Logistic

    @staticmethod
    @lru_cache(maxsize=1)
    def shipped() -> PairScores:
        """Those of the weights folder."""
        return PairScores(**{name: Logistic(values) for name, values in json.loads(FILE.read_text()).items()})

    def save(self, path: Path) -> None:
        """Write a file as `shipped` reads it."""
        values = {"surface": self.surface.coefficients, "viewed": self.viewed.coefficients}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=1) + "\n")

    def of_surface(self, graph: SuperpointGraph) -> Floats:
        """Log odds (E,) without views."""
        return self.surface(surface_channels(graph)).clip(-CERTAIN, CERTAIN)

    def __call__(self, graph: SuperpointGraph) -> Floats:
        """Log odds (E,) with what views said, where any did."""
        channels = surface_channels(graph)
        viewed = self.viewed(np.column_stack([channels, graph.agreement]))
        return np.where(graph.weight > 0, viewed, self.surface(channels)).clip(-CERTAIN, CERTAIN).astype(np.float32)


def fit_scores(graphs: list[tuple[SuperpointGraph, Floats, Floats]]) -> PairScores:
    """Fit to graphs with labels (E,) and weights (E,) of their edges; each graph counts the same."""
    channels = [np.column_stack([surface_channels(graph), graph.agreement]) for graph, _, _ in graphs]
    rows, labels = np.concatenate(channels), np.concatenate([labels for _, labels, _ in graphs])
    weights = np.concatenate([weights / max(float(weights.sum()), 1e-9) for _, _, weights in graphs])
    seen = np.concatenate([graph.weight > 0 for graph, _, _ in graphs])
    surface = Logistic.fit(SURFACE, rows[:, : len(SURFACE)], labels, weights)
    return PairScores(surface, Logistic.fit(VIEWED, rows[seen], labels[seen], weights[seen]))
