# SPDX-License-Identifier: Apache-2.0
"""Masks from prompts in two phases, as Segment Anything has them (Kirillov et al., ICCV 2023): `set_image` is heavy,
`predict` is light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.maps import bilinear
from perception_models.runtime import Engine, EngineInfo
from perception_models.segmentation.compact_backend import CompactBackend
from perception_models.segmentation.sam_backend import SamBackend

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
WEIGHTS = Path(__file__).parent / "weights"
CORNERS = (2, 3)


class Features(Protocol):
    """An encoded image, which fills the upper left of the network's input."""

    @property
    def values(self) -> Floats:
        """(1, C, h, w), of the whole input."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image."""

    @property
    def filled(self) -> tuple[int, int]:
        """(columns, rows) of the input that show the image."""


class Backend(Protocol):
    """A network of two parts; see compact_backend and sam_backend."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height)."""

    @property
    def engines(self) -> tuple[Engine, ...]:
        """What runs."""

    def encode(self, rgb: NDArray[np.uint8], depth: Floats | None = None) -> Any:
        """Features of an image."""

    def decode(
        self,
        features: Any,
        coordinates: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        mask: Floats | None = None,
        multimask: bool = True,
    ) -> tuple[Floats, Floats]:
        """Logits (B, M, h, w) over the whole input and scores (B, M)."""

    def close(self) -> None:
        """Free the engines."""


@dataclass(frozen=True)
class Masks:
    """Of one prompt: masks (M, H, W), predicted IoU (M,), and the logits (M, h, w) over the network's input, of which
    one may be given back as `mask`."""

    masks: Bools
    scores: Floats
    logits: Floats

    @property
    def best(self) -> Bools:
        """The mask (H, W) with the highest score."""
        mask: Bools = self.masks[int(self.scores.argmax())]
        return mask


@dataclass(frozen=True)
class ManyMasks:
    """Of B prompts: logits (B, 3, h, w) over the image, predicted IoU (B, 3); image pixels a logit pixel."""

    logits: Floats
    scores: Floats
    stride: float


class MaskPredictor:
    """Masks of what is clicked at. Get one with `MaskPredictor.load()`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._features: Features | None = None

    @staticmethod
    def load(variant: str = "compact", backend: str = "auto", threads: int | None = None) -> MaskPredictor:
        """Load a variant: a folder name under `weights/`, or a path to a folder, also one of an imported SAM.

        Raises BadWeights where the folder is incomplete, and as `runtime.load_engine` does.
        """
        named, folder = WEIGHTS / variant, Path(variant)
        weights = folder if folder.is_dir() and not named.is_dir() else named
        from perception_models.runtime.facts import load_facts

        kind = SamBackend if "sam" in load_facts(weights / "decoder").settings else CompactBackend
        loaded: Backend = kind.load(weights, backend, threads)
        return MaskPredictor(loaded)

    def set_image(self, rgb: NDArray[np.uint8], depth: Floats | None = None) -> None:
        """Look at an image (H, W, 3) uint8 RGB, with its depth (H, W) in metres where there is one (0 or NaN: unknown;
        SAM's own networks do not use it). Raises ValueError for another shape or type."""
        self._features = self.backend.encode(rgb, depth)

    def predict(
        self,
        points: NDArray[np.floating[Any]] | None = None,
        labels: NDArray[np.integer[Any]] | None = None,
        box: NDArray[np.floating[Any]] | None = None,
        mask: Floats | None = None,
        multimask: bool = True,
    ) -> Masks:
        """Masks of what points (K, 2) x y with labels (K,), 1 on it and 0 beside it, or a box (4,) x0 y0 x1 y1 mean.

        mask (h, w): logits of an earlier answer. `multimask`: three masks, as a click may mean a part, a thing, or a
        group; else one. Raises ValueError without a prompt or for other shapes, RuntimeError without an image.
        """
        coordinates, kinds = _prompt(points, labels, box)
        features = self._known()
        logits, scores = self.backend.decode(
            features, coordinates[None], kinds[None], None if mask is None else np.asarray(mask)[None], multimask
        )
        return Masks(self._upscaled(logits[0]) > 0, scores[0], logits[0])

    def predict_many(self, points: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> ManyMasks:
        """Masks of B prompts of points (B, K, 2) with labels (B, K), -1 where there is no point."""
        if points.ndim != 3 or labels.shape != points.shape[:2] or not len(points):
            raise ValueError(f"prompts are points (B, K, 2) and labels (B, K), got {points.shape} and {labels.shape}")
        logits, scores = self.backend.decode(self._known(), points, labels)
        rows, columns = self._shown(logits.shape[2:])
        features = self._known()
        stride = self.backend.input_size[0] / logits.shape[3] * features.size[0] / features.filled[0]
        return ManyMasks(logits[:, :, :rows, :columns], scores, stride)

    def features_at(self, pixels: NDArray[np.floating[Any]]) -> Floats:
        """The encoder's features (N, C) at pixels (N, 2) x y, bilinear."""
        features = self._known()
        values = features.values[0]
        cells = np.divide(values.shape[:0:-1], self.backend.input_size)
        scale = np.divide(features.filled, features.size) * cells
        places = ((np.asarray(pixels, np.float32) + 0.5) * scale - 0.5).astype(np.float32)
        return bilinear(values, places)

    def everything(
        self, per_side: int = 16, min_score: float = 0.7, min_stability: float = 0.85, overlap: float = 0.7
    ) -> list[tuple[Bools, float]]:
        """Masks (H, W) with scores of all that a grid of `per_side` x `per_side` clicks finds, best first: those whose
        predicted IoU and stability suffice, without doubles (IoU above `overlap`)."""
        from perception_models.segmentation.automatic import all_masks

        width, height = self._known().size
        found = all_masks(self, per_side, width, height, min_score, min_stability, overlap)
        return [(self._to_image(logits) > 0, score) for logits, score in found]

    @property
    def engine_info(self) -> EngineInfo:
        """Backend and precision of the encoder, which takes the time."""
        return self.backend.engines[0].info

    def close(self) -> None:
        """Free the engines."""
        self.backend.close()

    def _known(self) -> Features:
        if self._features is None:
            raise RuntimeError("no image is set; call set_image first")
        return self._features

    def _shown(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of logits (h, w) over the input that show the image."""
        features, (width, height) = self._known(), self.backend.input_size
        rows, columns = shape[0] * features.filled[1] / height, shape[1] * features.filled[0] / width
        return max(1, round(rows)), max(1, round(columns))

    def _upscaled(self, logits: Floats) -> Floats:
        """Logits (M, H, W) at the image's size."""
        rows, columns = self._shown(logits.shape[1:])
        return np.stack([self._to_image(each[:rows, :columns]) for each in logits])

    def _to_image(self, logits: Floats) -> Floats:
        return np.asarray(cv2.resize(logits, self._known().size, interpolation=cv2.INTER_LINEAR), np.float32)


def _prompt(points: Any, labels: Any, box: Any) -> tuple[Floats, NDArray[np.int64]]:
    """Coordinates (K, 2) and labels (K,) of a prompt, the corners of a box at its end."""
    places = np.empty((0, 2), np.float32) if points is None else np.asarray(points, np.float32)
    kinds = np.ones(len(places), np.int64) if labels is None else np.asarray(labels, np.int64)
    if places.ndim != 2 or places.shape[1] != 2 or kinds.shape != places.shape[:1]:
        raise ValueError(f"points are (K, 2) x y with labels (K,), got {places.shape} and {kinds.shape}")
    if not np.isin(kinds, (0, 1)).all():
        raise ValueError(f"labels are 1 (on it) or 0 (beside it), got {sorted(set(kinds.tolist()))}")
    if box is not None:
        corners = np.asarray(box, np.float32)
        if corners.shape != (4,) or not (corners[:2] < corners[2:]).all():
            raise ValueError(f"a box is (4,) x0 y0 x1 y1 with x0 < x1 and y0 < y1, got {corners.tolist()}")
        places, kinds = np.concatenate([places, corners.reshape(2, 2)]), np.append(kinds, CORNERS)
    if not len(places) or not np.isfinite(places).all():
        raise ValueError("a prompt has at least one point or a box, of finite numbers")
    return places, kinds
