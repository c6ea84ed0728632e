# SPDX-License-Identifier: Apache-2.0
"""Key points of an image with descriptors, and the extractors that a map may be built with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perception_models.runtime import EngineInfo

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]


class DenseDescriptors(Protocol):
    """Descriptors anywhere in one image, as lines need them."""

    def sample(self, points: Floats) -> Floats:
        """Unit descriptors (..., D) at pixels (..., 2)."""


@dataclass(frozen=True)
class Features:
    """points (N, 2) x y in pixels of the image, best first; scores (N,); descriptors (N, D) of unit length."""

    points: Floats
    scores: Floats
    descriptors: Floats
    dense: DenseDescriptors

    def __len__(self) -> int:
        return len(self.points)


class FeatureExtractor(Protocol):
    """Finds key points in images of any size."""

    name: str
    dimensions: int

    @property
    def engine_info(self) -> EngineInfo:
        """What runs it."""

    def extract(self, rgb: Image) -> Features:
        """Key points of an image (H, W, 3) uint8 RGB. Raises ValueError for another shape or type."""

    def close(self) -> None:
        """Free what the extractor holds."""


EXTRACTORS = ("xfeat", "rootsift")


def load_extractor(name: str, count: int = 1024, threads: int | None = None) -> FeatureExtractor:
    """The extractor `name`, one of EXTRACTORS, giving at most `count` key points an image.

    Raises ValueError for an unknown name, and MissingXFeat where XFeat's weights cannot be had.
    """
    if name == "xfeat":
        from perception_models.relocalization.xfeat import XFeat

        return XFeat.load(count, threads=threads)
    if name == "rootsift":
        from perception_models.relocalization.rootsift import RootSift

        return RootSift(count)
    raise ValueError(f"features '{name}' are unknown; known are {', '.join(EXTRACTORS)}")


def check_image(rgb: object) -> None:
    """Raise ValueError for what is not an image (H, W, 3) uint8 of at least 32 x 32 pixels."""
    if not isinstance(rgb, np.ndarray) or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        got = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise ValueError(f"an image must be a uint8 array (H, W, 3) of RGB, got {got}")
    if min(rgb.shape[:2]) < 32:
        raise ValueError(f"an image must have at least 32 x 32 pixels, got {rgb.shape[1]} x {rgb.shape[0]}")


def unit(vectors: Floats) -> Floats:
    """Vectors (..., D) scaled to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled
