# SPDX-License-Identifier: Apache-2.0
"""GeoTransformer at run time: two clouds -> matched points and the transform they agree on. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_models.registration.geotransformer_input import SIDES, Stages, Tensors, pair_tensors, stages_of
from perception_models.registration.geotransformer_settings import GeoTransformerSettings
from perception_models.registration.local_to_global import local_to_global
from perception_models.registration.patch_matching import PatchMatches, match_patches, match_super_points, patches
from perception_models.runtime import BadWeights, Engine, ModelFacts, load_engine

Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.floating]

ITERATIONS = 100  # of optimal transport, as published


class OfficialMatcher:
    """A weights folder of GeoTransformer behind the engine interface."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        try:
            self.settings = GeoTransformerSettings.from_dict(dict(engine.facts.settings))
        except (KeyError, TypeError) as error:
            raise BadWeights(f"{engine.facts.folder} does not hold GeoTransformer's settings ({error})") from error

    @classmethod
    def load(cls, folder: Path, backend: str = "auto", threads: int | None = None) -> OfficialMatcher:
        """Load the network in a folder; raises as `runtime.load_engine` does, and BadWeights for another network."""
        return cls(load_engine(folder, backend, threads=threads))

    def prepare(self, points: Points) -> Stages:
        """Points (N, 3) in metres, sub-sampled with neighbours. Raises ValueError for too many or too few of them."""
        return stages_of(points, self.settings)

    def match(self, source: Points, target: Points) -> tuple[Floats, Floats]:
        """Matched points (K, 2, 3) of the source (N, 3) and the target (M, 3), in metres, with weights (K,) in 0..1;
        K may be 0. Raises ValueError as `prepare`, and for more points than the network has capacity for."""
        first, second = self.prepare(source), self.prepare(target)
        found = self.match_stages(first, second)
        fine = self.settings.fine_stage
        pairs = np.stack([first.points[fine][found.source], second.points[fine][found.target]], axis=1)
        return pairs, found.confidence

    def propose(self, source: Stages, target: Stages) -> tuple[npt.NDArray[np.float64], int] | None:
        """Transform (4, 4) source -> target by local-to-global registration, and how many matches agree with it; None
        where there is none."""
        fine = self.settings.fine_stage
        matches = self.match_stages(source, target)
        return local_to_global(source.points[fine], target.points[fine], matches, self.settings.acceptance)

    def match_stages(self, source: Stages, target: Stages) -> PatchMatches:
        """Match the points of the fine stage of both clouds."""
        settings = self.settings
        features, super_features = self._describe(source, target)
        sides = dict(zip(SIDES, (target, source), strict=True))
        members = {
            side: patches(cloud.points[settings.fine_stage], cloud.points[-1], settings.patch_points)
            for side, cloud in sides.items()
        }
        full = {side: np.flatnonzero(rows[:, 0] >= 0) for side, rows in members.items()}  # a patch may be empty
        rows, columns = match_super_points(
            super_features["source"][full["source"]], super_features["target"][full["target"]], settings.patch_pairs
        )
        scale = np.float32(settings.channels**-0.5)
        return match_patches(
            features["source"] * scale,
            features["target"],
            members["source"][full["source"][rows]],
            members["target"][full["target"][columns]],
            settings.dustbin,
            settings.mutual,
            ITERATIONS,
        )

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def _describe(self, source: Stages, target: Stages) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Descriptors of fine points and of super-points, by side."""
        tensors = pair_tensors(target, source)
        wanted = {name: tensors[name] for name in self.engine.facts.inputs}
        outputs = self.engine(**(pad(wanted, self.engine.facts) if self.engine.pads_to_capacity else wanted))
        first = 1 + len(target.points[self.settings.fine_stage])
        last = first + len(source.points[self.settings.fine_stage])
        features = {"target": outputs["features"][1:first], "source": outputs["features"][first:last]}
        return features, {side: outputs[f"{side}_super"][: len(wanted[f"{side}_rows"])] for side in SIDES}


def pad(tensors: Tensors, facts: ModelFacts) -> Tensors:
    """Tensors with every axis at its capacity, filled with zeros, which stand for no point. Raises ValueError for more
    points than that."""
    padded = {}
    for name, value in tensors.items():
        shape = facts.inputs[name].shape_at(facts.capacity)
        if any(length > most for length, most in zip(value.shape, shape, strict=True)):
            raise ValueError(f"{name} is {value.shape}, the network has capacity for {shape}: crop the clouds")
        padded[name] = np.zeros(shape, value.dtype)
        padded[name][tuple(slice(length) for length in value.shape)] = value
    return padded
