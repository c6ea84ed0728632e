# SPDX-License-Identifier: Apache-2.0
"""A place of which everything is known, and a network that knows it: the inside of a painted ball."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

import numpy as np

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame, rays
from perception_models.reconstruction.backend import Answer, State
from perception_models.reconstruction.input import CanonicalCamera
from perception_models.reconstruction.online_settings import OnlineSettings
from perception_models.runtime import EngineInfo

CAMERA = CanonicalCamera(112, 80, 95.0)
OWN = OnlineSettings(poses="network")  # of what is painted too smooth to have features
RADIUS = 3.0  # m
SURE, LOST = 5.0, 1.05  # confidence in a place that the state knows, and in another


def distances(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """How far (...,) the ball is from inside of it along unit directions (..., 3)."""
    along = (origins * directions).sum(-1)
    return -along + np.sqrt(along**2 - (origins**2).sum(-1) + RADIUS**2)


def seen_from(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (H, W, 3) in the camera's frame, and where they are in the world."""
    local = rays(CAMERA.matrix, CAMERA.width, CAMERA.height).astype(np.float64)
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    directions = local @ pose[:3, :3].T
    far = distances(np.broadcast_to(pose[:3, 3], directions.shape), directions)[..., None]
    return far * local, pose[:3, 3] + far * directions


def frame(pose: np.ndarray, place: int = 0, detail: float = 4.0) -> RgbdFrame:
    """What a camera sees in a ball; `place` is another paint, `detail` (rad/m) how fine it is."""
    local, world = seen_from(pose)
    waves = np.random.default_rng(place).normal(0, detail, (3, 6, 3))
    shades = [sum(np.sin(world @ wave + k) for k, wave in enumerate(channel)) for channel in waves]
    rgb = np.clip(128 + 35 * np.stack(shades, -1), 0, 255).astype(np.uint8)
    return RgbdFrame(rgb, local[..., 2].astype(np.float32), CAMERA.matrix, pose)


def walk(count: int, step: float = 0.05) -> list[np.ndarray]:
    """Poses of a camera that goes sideways and turns."""
    return [
        se3.from_yaw_pitch_roll(0.02 * k, -0.03 * k, 0.01 * k, [step * k, 0.3 * step * k, 0.02 * k])
        for k in range(count)
    ]


class TrueNetwork:
    """Knows the pose of each image that it was told of, and the ball. `units`: metres a unit, of one fresh state after
    the other; the last stays. `broken`: answers NaN."""

    camera = CAMERA
    engine_info = EngineInfo("truth", "fp64", "test", 0.0, "none")

    def __init__(self, units: Sequence[float] = (1.0,)) -> None:
        self._known: dict[bytes, tuple[np.ndarray, int]] = {}
        self._units = chain(units[:-1], repeat(units[-1]))
        self.broken = self.closed = False
        self.gated: list[bool] = []

    def frames(self, poses: Sequence[np.ndarray], place: int = 0, detail: float = 4.0) -> Iterator[RgbdFrame]:
        """Images that it knows."""
        for pose in poses:
            one = frame(pose, place, detail)
            self._known[one.rgb.tobytes()] = pose, place
            yield one

    def start(self) -> State:
        return State(np.zeros((1, 4, 4)), np.zeros((1, 1, 2)), fresh=True)

    def encode(self, rgb: np.ndarray) -> dict:
        return {"tokens": np.rint(127.5 * (rgb[0] + 1)).astype(np.uint8).transpose(1, 2, 0)}

    def encode_rays(self, rays: np.ndarray) -> dict:
        return {"tokens": rays[0].transpose(1, 2, 0).astype(np.float64)}

    def step(self, tokens: dict, state: State, gated: bool) -> tuple[Answer, State]:
        self.gated.append(gated)
        seen = tokens["tokens"]
        if seen.shape[-1] == 6:
            return self._expected(seen, state), state
        pose, place = self._known[np.ascontiguousarray(seen).tobytes()]
        if state.fresh:
            state = State(pose[None].copy(), np.array([[[next(self._units), place]]]))
        origin, (unit, known) = state.tokens[0], state.memory[0, 0]
        local, world = seen_from(pose)
        there = se3.inverse(origin)
        moved = there @ pose
        moved = se3.make(moved[:3, :3], moved[:3, 3] / unit)
        return self._answer(
            local / unit, se3.apply(there, world) / unit, moved, SURE if known == place else LOST
        ), state

    def _expected(self, rays: np.ndarray, state: State) -> Answer:
        """Along rays in the frame of the state; of the camera only the world is known."""
        origin, (unit, _) = state.tokens[0], state.memory[0, 0]
        starts, directions = se3.apply(origin, unit * rays[..., :3]), rays[..., 3:] @ origin[:3, :3].T
        world = starts + distances(starts, directions)[..., None] * directions
        points = se3.apply(se3.inverse(origin), world) / unit
        far = np.linalg.norm(points - rays[..., :3], axis=-1)
        return self._answer(np.stack([0 * far, 0 * far, far], -1), points, np.eye(4), SURE)

    def _answer(self, own: np.ndarray, points: np.ndarray, pose: np.ndarray, confidence: float) -> Answer:
        sure = np.full(own.shape[:2], confidence, np.float32)
        own = own.astype(np.float32) * np.float32(np.nan if self.broken else 1)
        return Answer(own, sure, points.astype(np.float32), sure, np.zeros_like(own), pose)

    def close(self) -> None:
        self.closed = True
