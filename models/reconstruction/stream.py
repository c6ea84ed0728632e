# SPDX-License-Identifier: Apache-2.0
"""The state on its way from image to image: when it changes, when it is begun anew, and where its frame then lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from perception_models.geometry.cameras import Matrix
from perception_models.reconstruction.backend import Answer, Network, State
from perception_models.reconstruction.feature_poses import FeaturePoses
from perception_models.reconstruction.health import Watch
from perception_models.reconstruction.input import NetworkInput
from perception_models.reconstruction.online_settings import OnlineSettings
from perception_models.reconstruction.placement import Placement
from perception_models.reconstruction.scale import depth_ratio
from perception_models.runtime.tensors import Arrays

STARTED = "the stream begins"
Keep = Callable[[Matrix], bool]
JUMPED = "a jump: the image is unlike the last one, and the network does not know the place"
UNKNOWN = "a jump: the image is unlike the last one, and shows nothing that the last key frames do"
NO_ANSWER = "the network answers no numbers, or sees nothing in front of the camera"
LOST = "too little in the image is recognised to tell where it was taken: is it blurred, too fast, or bare?"


@dataclass(frozen=True)
class Chunk:
    """The state since it was last begun, where its frame lies in the world, and after how many images."""

    state: State
    placement: Placement
    images: int = 0


@dataclass(frozen=True)
class Sight:
    """What the network sees in an image; reset: why the state was begun anew with it, empty where it was not; kept:
    whether it entered the state."""

    answer: Answer
    reset: str = ""
    kept: bool = True


class Stream:
    """Images of one camera, one after the other."""

    def __init__(self, network: Network, settings: OnlineSettings) -> None:
        self._network, self._settings = network, settings
        self.watch = Watch(settings)
        self._features = FeaturePoses(network.camera.matrix[0, 0]) if settings.poses == "features" else None
        self.world = -1  # number of the world frame
        self.reset(STARTED)

    def reset(self, reason: str) -> None:
        """Forget everything; the next image begins a new world, for this reason."""
        self.chunk: Chunk | None = None
        self._reason, self._failures = reason, 0
        self.watch.forget()

    def look(self, image: NetworkInput, keep: Keep) -> Sight | str:
        """Look at an image, which enters the state if its camera's pose in the world is worth it -> what is seen, or
        why nothing is: nothing changes then, but after some of these in a row everything is forgotten."""
        sight = self._taken_in(image, self._network.encode(image.tensor), keep)
        self._failures = self._failures + 1 if isinstance(sight, str) else 0
        if self._failures >= self._settings.failures:
            self.reset(f"{self._failures} answers in a row were none; {sight}")
        return sight

    def _taken_in(self, image: NetworkInput, tokens: Arrays, keep: Keep) -> Sight | str:
        chunk = self.chunk
        if chunk is None:
            return self._begin(image, tokens, self._reason)
        if self._features is not None:
            return self._recognised(image, tokens, keep, chunk, self._features)
        answer, state = self._network.step(tokens, chunk.state, self._settings.gated)
        if not _is_sound(answer, state, image):
            return NO_ANSWER
        if self.watch.jumped(image, confidence_of(answer, image)):
            self.reset(JUMPED)
            return self._begin(image, tokens, JUMPED)
        if 0 < self._settings.reset_every <= chunk.images:
            return self._follow(image, tokens, chunk, answer)
        if not keep(chunk.placement.camera(answer.pose)):
            return replace(self._accept(image, answer, chunk), kept=False)
        return self._accept(image, answer, replace(chunk, state=state, images=chunk.images + 1))

    def _recognised(
        self, image: NetworkInput, tokens: Arrays, keep: Keep, chunk: Chunk, features: FeaturePoses
    ) -> Sight | str:
        """As features place the image. The state has no part in that, so it may begin anew and nothing else changes."""
        due = 0 < self._settings.reset_every <= chunk.images
        before = self._network.start() if due else chunk.state
        answer, state = self._network.step(tokens, before, self._settings.gated)
        if not _is_sound(answer, state, image):
            return NO_ANSWER
        placed = features.place(image, answer)
        if placed is None and self.watch.unlike(image):
            self.reset(UNKNOWN)
            return self._begin(image, tokens, UNKNOWN)
        if placed is None:
            return LOST
        if due:
            return self._accept(image, placed, Chunk(state, chunk.placement, 1), _scheduled(chunk))
        if not keep(chunk.placement.camera(placed.pose)):
            return replace(self._accept(image, placed, chunk), kept=False)
        return self._accept(image, placed, replace(chunk, state=state, images=chunk.images + 1))

    def _begin(self, image: NetworkInput, tokens: Arrays, reason: str) -> Sight | str:
        """A new world, in the frame of this image's camera."""
        answer, state = self._network.step(tokens, self._network.start(), self._settings.gated)
        if not _is_sound(answer, state, image):
            return NO_ANSWER
        if self._features is not None:
            answer = self._features.begin(image, answer)
        self.world += 1
        return self._accept(image, answer, Chunk(state, Placement(np.eye(4)), 1), reason)

    def _follow(self, image: NetworkInput, tokens: Arrays, chunk: Chunk, old: Answer) -> Sight | str:
        """A new state in the old world: what both states say of the image tells where the new frame lies."""
        answer, state = self._network.step(tokens, self._network.start(), self._settings.gated)
        if not _is_sound(answer, state, image):
            return NO_ANSWER
        ratio, _ = depth_ratio(answer.depth, old.depth, image.mask)
        placement = chunk.placement.followed(old.pose, answer.pose, ratio if np.isfinite(ratio) else 1.0)
        return self._accept(image, answer, Chunk(state, placement, 1), _scheduled(chunk))

    def _accept(self, image: NetworkInput, answer: Answer, chunk: Chunk, reset: str = "") -> Sight:
        self.chunk = chunk
        self.watch.accept(image, confidence_of(answer, image))
        return Sight(answer, reset)


def _scheduled(chunk: Chunk) -> str:
    return f"scheduled, after {chunk.images} images"


def confidence_of(answer: Answer, image: NetworkInput) -> float:
    """Median confidence, from 1, of the pixels that show the image."""
    return float(np.median(answer.confidence[image.mask]))


def _is_sound(answer: Answer, state: State, image: NetworkInput) -> bool:
    """Whether an answer and the state after it are numbers, and it sees anything."""
    remembered = np.isfinite(state.tokens).all() and np.isfinite(state.memory).all()
    return bool(answer.is_finite and remembered and (answer.depth > 0)[image.mask].any())
