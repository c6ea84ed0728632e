# SPDX-License-Identifier: Apache-2.0
"""The network at run time, as three engines: encoder (or that of rays), one step of the decoder, heads. No torch.

The state is a value that is given in and comes out, so to look without remembering is to drop what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, Matrix, rays
from perception_models.reconstruction.input import CanonicalCamera
from perception_models.reconstruction.settings import ReconstructionSettings
from perception_models.runtime import Engine, EngineInfo, load_engine
from perception_models.runtime.tensors import Arrays

PARTS = ("encoder", "decoder", "heads", "rays")


@dataclass(frozen=True)
class State:
    """What is remembered: tokens of the scene (1, S, D), memory of poses (1, M, 2 D). fresh: nothing is, whatever these
    hold."""

    tokens: Floats
    memory: Floats
    fresh: bool = False


@dataclass(frozen=True)
class Answer:
    """Of one image: points_self (H, W, 3) in its camera's frame, points (H, W, 3) in the first camera's, each with its
    confidence (H, W) from 1; rgb (H, W, 3) -1 to 1; pose (4, 4) camera -> first camera. Units of the network: metres,
    as well as it knows them."""

    points_self: Floats
    confidence_self: Floats
    points: Floats
    confidence: Floats
    rgb: Floats
    pose: Matrix

    @property
    def is_finite(self) -> bool:
        """Whether all of it are numbers."""
        return all(bool(np.isfinite(part).all()) for part in vars(self).values())

    @property
    def depth(self) -> Floats:
        """(H, W) along the optical axis; 0 for what lies behind the camera."""
        return np.maximum(self.points_self[..., 2], np.float32(0))


class Network(Protocol):
    """What a reconstructor needs of a network; tests give one that knows the truth."""

    @property
    def camera(self) -> CanonicalCamera:
        """The images that it takes."""
        ...

    @property
    def engine_info(self) -> EngineInfo:
        """Facts of what runs."""
        ...

    def start(self) -> State:
        """The state before the first image."""
        ...

    def encode(self, rgb: Floats) -> Arrays:
        """Tokens of an image (1, 3, H, W), -1 to 1."""
        ...

    def encode_rays(self, rays: Floats) -> Arrays:
        """Tokens of a view that no image shows, by its rays (1, 6, H, W) in the first camera's frame."""
        ...

    def step(self, tokens: Arrays, state: State, gated: bool) -> tuple[Answer, State]:
        """Look at the tokens with a state -> what is seen, and the state afterwards."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class EngineNetwork:
    """The network of a weights folder."""

    def __init__(self, encoder: Engine, decoder: Engine, heads: Engine, ray_encoder: Engine) -> None:
        self._encoder, self._decoder, self._heads, self._rays = encoder, decoder, heads, ray_encoder
        settings = ReconstructionSettings.from_dict(dict(decoder.facts.settings))
        self._camera = CanonicalCamera(settings.width, settings.height, settings.focal)

    @staticmethod
    def load(folder: Path, backend: str = "auto", threads: int | None = None) -> EngineNetwork:
        """Load a folder with encoder/, decoder/, heads/ and rays/; raises as `runtime.load_engine` does."""
        return EngineNetwork(*(load_engine(folder / part, backend, threads=threads) for part in PARTS))

    @property
    def camera(self) -> CanonicalCamera:
        """See Network."""
        return self._camera

    @property
    def engine_info(self) -> EngineInfo:
        """Of the decoder."""
        return self._decoder.info

    def start(self) -> State:
        """See Network."""
        return State(_zeros(self._decoder, "state"), _zeros(self._decoder, "memory"), fresh=True)

    def encode(self, rgb: Floats) -> Arrays:
        """See Network."""
        return self._encoder(rgb=rgb)

    def encode_rays(self, rays: Floats) -> Arrays:
        """See Network. What an image shows beside its tokens is zero here."""
        rest = self._encoder.facts.outputs.keys() - {"tokens"}
        return {**self._rays(rays=rays), **{name: _zeros(self._heads, name) for name in rest}}

    def step(self, tokens: Arrays, state: State, gated: bool) -> tuple[Answer, State]:
        """See Network."""
        flags = {"fresh": state.fresh, "update": True, "reset": False, "gated": gated}
        given = {name: np.array([value], np.float32) for name, value in flags.items()}
        decoded = self._decoder(tokens=tokens["tokens"], state=state.tokens, memory=state.memory, **given)
        after = State(decoded.pop("next_state"), decoded.pop("next_memory"))
        wanted = self._heads.facts.inputs.keys()  # a head may do without some of them
        found = self._heads(**{name: part for name, part in {**tokens, **decoded}.items() if name in wanted})
        pose = _pose(found.pop("pose")[0])
        return Answer(pose=pose, **{name: part[0] for name, part in found.items()}), after

    def close(self) -> None:
        """Free the engines."""
        for engine in (self._encoder, self._decoder, self._heads, self._rays):
            engine.close()


def _zeros(engine: Engine, name: str) -> Floats:
    """An input of an engine, all of it 0."""
    return np.zeros(engine.facts.inputs[name].shape_at({}), np.float32)


def _pose(values: Floats) -> Matrix:
    """Pose (4, 4) of t xyz and quaternion w x y z (7,); NaN where that is no rotation."""
    translation, (w, x, y, z) = values[:3], values[3:].tolist()
    try:
        return se3.from_quaternion((x, y, z, w), translation)
    except ValueError:
        return np.full((4, 4), np.nan)


def ray_map(pose: Matrix, camera_matrix: Matrix, camera: CanonicalCamera) -> Floats:
    """Origin and direction (1, 6, H, W) of the rays of each pixel of a camera at a pose (4, 4) in the first camera's
    frame."""
    local = rays(camera_matrix, camera.width, camera.height)
    directions = local @ pose[:3, :3].T.astype(np.float32)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to(pose[:3, 3].astype(np.float32), directions.shape)
    return np.ascontiguousarray(np.concatenate([origins, directions], axis=-1).transpose(2, 0, 1)[None], np.float32)
