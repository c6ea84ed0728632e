# SPDX-License-Identifier: Apache-2.0
"""Training samples of one scene: what the network sees of an image, and where that truly is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame
from perception_models.relocalization.depth import depth_at, lift
from perception_models.relocalization.features import FeatureExtractor, Floats, Image
from perception_models.relocalization.lines import detect_lines

Affine = NDArray[np.float64]
LINES = 128  # an image
BORDER = 3.0  # pixels from the warped image's border inside of which its key points are kept


@dataclass(frozen=True)
class Sample:
    """descriptors (N, D) of key points and line_tokens (L, T, D); places (N + 2 L, 3) in the map of the points, then of
    both ends of each line, NaN where unknown; rays (N + 2 L, 3): unit vectors from the camera to the places."""

    descriptors: NDArray[np.float16]
    line_tokens: NDArray[np.float16]
    places: Floats
    rays: Floats


def samples_of(frame: RgbdFrame, extractor: FeatureExtractor, rng: np.random.Generator, warps: int = 2) -> list[Sample]:
    """The frame as it is, and as often as `warps` turned by up to 30 degrees, scaled by 2/3 to 3/2, lit differently:
    the augmentation of DSAC* (Brachmann and Rother, PAMI 2021). Raises ValueError where depth or pose is missing."""
    if frame.depth is None or frame.pose is None:
        raise ValueError("a network is trained on frames with depth and pose")
    found = [_observe(frame, frame.rgb, np.eye(2, 3), extractor)]
    for _ in range(warps):
        warp = _random_warp(frame.rgb, rng)
        turned = np.asarray(cv2.warpAffine(frame.rgb, warp, frame.rgb.shape[1::-1]), np.float64)
        lit = turned * rng.uniform(0.8, 1.2) + rng.uniform(-20, 20)
        found.append(_observe(frame, np.clip(lit, 0, 255).astype(np.uint8), warp, extractor))
    return found


def _random_warp(image: Image, rng: np.random.Generator) -> Affine:
    """Turns and scales the pixels of an image about its centre: (2, 3)."""
    centre = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    scale = np.exp(rng.uniform(np.log(2 / 3), np.log(3 / 2)))
    return np.asarray(cv2.getRotationMatrix2D(centre, rng.uniform(-30, 30), scale), np.float64)


def _observe(frame: RgbdFrame, image: Image, warp: Affine, extractor: FeatureExtractor) -> Sample:
    """What is seen in `image`, which is the frame's after `warp` (2, 3) of its pixels."""
    features = extractor.extract(image)
    lines = detect_lines(image, features, LINES)
    back = np.asarray(cv2.invertAffineTransform(warp), np.float64)
    pixels = _apply(back, features.points)
    inside = _inside(pixels, frame)
    ends = _apply(back, lines.ends.reshape(-1, 2))
    pixels = np.concatenate([pixels[inside], ends])
    assert frame.depth is not None and frame.pose is not None
    depth = np.where(_inside(pixels, frame), depth_at(frame.depth, pixels), np.float32(np.nan))
    seen = lift(pixels, np.ones(len(pixels), np.float32), frame.camera_matrix)
    rays = seen @ frame.pose[:3, :3].T.astype(np.float32)
    places = se3.apply(frame.pose, seen * depth[:, None])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    halves = (features.descriptors[inside].astype(np.float16), lines.descriptors.astype(np.float16))
    return Sample(*halves, places.astype(np.float32), rays)


def _apply(warp: Affine, points: Floats) -> Floats:
    return points @ warp[:, :2].T.astype(np.float32) + warp[:, 2].astype(np.float32)


def _inside(pixels: Floats, frame: RgbdFrame) -> NDArray[np.bool_]:
    height, width = frame.rgb.shape[:2]
    inside = (pixels >= BORDER) & (pixels < np.array([width, height]) - BORDER)
    return np.asarray(inside.all(-1))


@dataclass(frozen=True)
class Batch:
    """B images as the network takes them, and their truth: places, rays (B, M, 3), known (B, M)."""

    descriptors: Tensor
    point_weight: Tensor
    line_tokens: Tensor
    line_weight: Tensor
    places: Tensor
    rays: Tensor
    known: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arguments of the network."""
        return self.descriptors, self.point_weight, self.line_tokens, self.line_weight


def make_batch(samples: Sequence[Sample], points: int, lines: int, rng: np.random.Generator) -> Batch:
    """Random `points` key points and `lines` lines of each sample; what a sample lacks is padding of weight 0."""
    drawn = [_draw(sample, points, lines, rng) for sample in samples]
    return Batch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*drawn, strict=True)))


def _draw(sample: Sample, points: int, lines: int, rng: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
    count = len(sample.descriptors)
    point, point_weight = _choose(count, points, rng)
    line, line_weight = _choose(len(sample.line_tokens), lines, rng)
    ends = np.where(line[:, None] >= 0, count + 2 * line[:, None] + np.arange(2), -1).reshape(-1)
    rows = np.concatenate([point, ends])
    places, rays = _take(sample.places, rows), _take(sample.rays, rows)
    known = np.isfinite(places).all(-1) & (rows >= 0)
    tensors = (_take(sample.descriptors, point), point_weight, _take(sample.line_tokens, line), line_weight)
    return *(tensor.astype(np.float32) for tensor in tensors), np.nan_to_num(places), rays, known


def _choose(available: int, wanted: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """`wanted` of the indices, -1 where there are not enough, and their weights."""
    chosen = np.full(wanted, -1)
    drawn = rng.permutation(available)[:wanted]
    chosen[: len(drawn)] = drawn
    return chosen, (chosen >= 0).astype(np.float32)


def _take(rows: NDArray[np.floating], chosen: NDArray[np.int64]) -> NDArray[np.floating]:
    """Rows by index; zeros for index -1."""
    taken = np.zeros((len(chosen), *rows.shape[1:]), rows.dtype)
    taken[chosen >= 0] = rows[chosen[chosen >= 0]]
    return taken
