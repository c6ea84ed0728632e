# SPDX-License-Identifier: Apache-2.0
"""Labelled objects: a model (mesh and size) and an actor (a model standing somewhere)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.shapes import Mesh


@dataclass(frozen=True)
class ActorModel:
    """An object that can be placed; its body fills size (l, w, h), its origin is on the ground below its centre."""

    label: int
    kind: str
    mesh: Mesh
    size: tuple[float, float, float]


@dataclass(frozen=True)
class Actor:
    """A model at a pose in the world."""

    model: ActorModel
    pose: NDArray[np.float64]  # (4, 4) model -> world, origin on the ground
    track_id: int
    paint: float  # reflectance of its painted or clothed parts
    transmission: float  # share of the rays that its glass lets through
    velocity: tuple[float, float] = (0.0, 0.0)  # m/s in the world

    @property
    def position(self) -> NDArray[np.float64]:
        """World position (3,) of its ground contact."""
        return self.pose[:3, 3]
