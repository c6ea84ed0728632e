# SPDX-License-Identifier: Apache-2.0
"""Ways to depth, poses and clouds measured side by side on the same frames: what does not look at the image, and the
network with and without its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame
from perception_models.reconstruction import OnlineSettings, Reconstructor, View
from perception_models.reconstruction.backend import EngineNetwork, Network
from perception_models.reconstruction.pipeline import weights_folder

PRIOR = "prior.npz"  # beside the weights: the mean of the depth maps of training renders
NOWHERE = np.full((4, 4), np.nan)


class Way(NamedTuple):
    """How the network is run: each image on its own; with TTT3R's gate; with scheduled resets; whose poses count."""

    alone: bool = False
    gated: bool = False
    scheduled: bool = False
    poses: str = "network"


WAYS = {
    "single images": Way(alone=True),
    "state": Way(),
    "state + gate": Way(gated=True),
    "state + resets": Way(scheduled=True),
    "state + gate + resets": Way(gated=True, scheduled=True),
    "single images, poses by features": Way(alone=True, poses="features"),
    "state, poses by features": Way(poses="features"),
}
CONSTANT, MEAN_MAP = "best constant", "mean depth map"
METHODS = (CONSTANT, MEAN_MAP, *WAYS)


@dataclass
class Found:
    """What a method said of each frame: depth (H, W), 0 where nothing, in metres where `metric`; the view and its pose
    (4, 4), NaN where none, and milliseconds, where it is the network; how many results were denied, and how many worlds
    there were."""

    depths: list[Floats] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    poses: list[Matrix] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    metric: bool = True
    invalid: int = 0
    worlds: int = 0

    def add(self, view: View, milliseconds: float) -> None:
        """Take in the next view. A pose in another world than the first does not belong to the same path."""
        self.invalid += not view.valid
        self.worlds = max(self.worlds, view.world + 1)
        self.depths.append(view.depth)
        self.views.append(view)
        self.poses.append(view.pose if view.world == 0 else NOWHERE)
        self.milliseconds.append(milliseconds)


@dataclass(frozen=True)
class Contest:
    """What all methods share: the network, its mean depth map (H, W) m where it has one, and after how many images a
    scheduled reset comes."""

    network: Network
    prior: Floats | None
    reset_every: int

    @staticmethod
    def load(weights: str, threads: int, reset_every: int) -> Contest:
        """Raises as `Reconstructor.load`."""
        folder = weights_folder(weights)
        return Contest(EngineNetwork.load(folder, threads=threads), read_prior(folder), reset_every)

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that can be run."""
        return tuple(name for name in METHODS if name != MEAN_MAP or self.prior is not None)

    def run(self, method: str, frames: Sequence[RgbdFrame]) -> Found:
        """What a method says of frames. Raises ValueError for one that cannot be run."""
        if method in WAYS:
            return self._seen(WAYS[method], frames)
        if method == MEAN_MAP and self.prior is not None:
            return _unmoved(self.prior, len(frames))
        if method != CONSTANT:
            raise ValueError(f"'{method}' cannot be run; there is {', '.join(self.methods)}")
        everywhere = np.ones((self.network.camera.height, self.network.camera.width), np.float32)
        return replace(_unmoved(everywhere, len(frames)), metric=False)

    def _seen(self, way: Way, frames: Sequence[RgbdFrame]) -> Found:
        found, joined = Found(), way.poses != "network"
        every = self.reset_every if way.scheduled else int(way.alone and joined)
        settings = OnlineSettings(poses=way.poses, gated=way.gated, reset_every=every)
        reconstructor = Reconstructor(self.network, settings)
        for frame in frames:
            if way.alone and not joined:
                reconstructor.reset()
            began = perf_counter()
            view = reconstructor.update(frame.rgb, frame.camera_matrix)
            found.add(view, 1e3 * (perf_counter() - began))
        return found


def _unmoved(depth: Floats, count: int) -> Found:
    """The same depth for every frame, by a camera that stands still."""
    return Found(depths=[depth] * count, poses=[np.eye(4)] * count)


def read_prior(folder: Path) -> Floats | None:
    """The mean depth (H, W) m beside some weights."""
    path = folder / PRIOR
    return np.load(path)["depth"].astype(np.float32) if path.is_file() else None
