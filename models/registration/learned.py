# SPDX-License-Identifier: Apache-2.0
"""The trained network at run time: descriptors of two clouds that know of each other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from perception_models.registration.network_input import Tensors, pad_pair, pair_tensors
from perception_models.registration.preprocess import Cloud
from perception_models.runtime import Engine, load_engine

Floats = npt.NDArray[np.float32]


class Described(NamedTuple):
    """Descriptors (N, F), (M, F), whose dot product is the logit of a match, and log-probabilities (N,), (M,) that a
    point has a partner in the other cloud."""

    source: Floats
    target: Floats
    source_matchability: Floats
    target_matchability: Floats


class LearnedDescriptors:
    """A weights folder of the registration network behind the engine interface."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def load(cls, weights: Path, backend: str = "auto", threads: int | None = None) -> LearnedDescriptors:
        """Load the network in a folder; raises as `runtime.load_engine` does."""
        return cls(load_engine(weights, backend, threads=threads))

    def describe(self, source: Cloud, target: Cloud) -> Described:
        """Describe both clouds. Raises ValueError for clouds prepared otherwise than the network was trained with, or
        with too few or too many points."""
        outputs, tensors = self.run(source, target)
        names = ("source_descriptors", "target_descriptors", "source_matchability", "target_matchability")
        parts = [outputs[name][: len(tensors[f"{name.split('_', 1)[0]}_features"])] for name in names]
        return Described(*parts[:2], *(-np.logaddexp(0, -logit) for logit in parts[2:]))

    def run(self, source: Cloud, target: Cloud) -> tuple[dict[str, Floats], Tensors]:
        """All outputs of the network, and the input tensors they belong to; outputs of an engine that pads are as long
        as its capacity."""
        self._check(source, target)
        tensors = pair_tensors(source, target)
        given = pad_pair(tensors) if self.engine.pads_to_capacity else tensors
        wanted = self.engine.facts.inputs  # a network without the Gromov-Wasserstein term has fewer inputs
        return self.engine(**{name: given[name] for name in wanted}), tensors

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()

    def _check(self, source: Cloud, target: Cloud) -> None:
        trained = self.engine.facts.settings["feature_radii"]
        for cloud in (source, target):
            if list(cloud.settings.feature_radii) != list(trained):
                raise ValueError(
                    f"{self.engine.facts.name} was trained with features of radii {list(trained)} voxels, the cloud "
                    f"has {list(cloud.settings.feature_radii)}; prepare it with those, or use variant='classical'"
                )
