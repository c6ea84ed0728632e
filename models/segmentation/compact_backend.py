# SPDX-License-Identifier: Apache-2.0
"""The compact network at run time: an image once, then prompts in batches. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception_models.runtime import Engine, load_engine
from perception_models.runtime.tensors import Arrays
from perception_models.segmentation.compact_input import Frame, prepare
from perception_models.segmentation.compact_settings import CompactSettings

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class CompactFeatures:
    """What the encoder says about one image, which fills the upper left of the input: arrays by the decoder's names."""

    arrays: Arrays
    frame: Frame

    @property
    def values(self) -> Floats:
        """The embedding (1, C, h, w) of the whole input."""
        return np.asarray(self.arrays["embedding"], np.float32)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image."""
        return self.frame.size

    @property
    def filled(self) -> tuple[int, int]:
        """(columns, rows) of the input that show the image."""
        return self.frame.filled


class CompactBackend:
    """Encoder and decoder of the compact network behind the interface of a mask predictor."""

    def __init__(self, encoder: Engine, decoder: Engine) -> None:
        self._encoder, self._decoder = encoder, decoder
        self.settings = CompactSettings.from_dict(dict(decoder.facts.settings))

    @staticmethod
    def load(folder: Path, backend: str = "auto", threads: int | None = None) -> CompactBackend:
        """Load a folder with `encoder/` and `decoder/`; raises as `runtime.load_engine` does."""
        encoder, decoder = (load_engine(folder / part, backend, threads=threads) for part in ("encoder", "decoder"))
        return CompactBackend(encoder, decoder)

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the input in pixels."""
        return self.settings.width, self.settings.height

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Encoder and decoder, to see what runs."""
        return self._encoder, self._decoder

    def encode(self, rgb: NDArray[np.uint8], depth: Floats | None = None) -> CompactFeatures:
        """An image (H, W, 3) uint8 RGB, with depth (H, W) in metres or None. Raises ValueError as `prepare` does."""
        frame = prepare(rgb, depth, self.settings)
        return CompactFeatures(self._encoder(rgb=frame.rgb, depth=frame.depth), frame)

    def decode(
        self,
        features: CompactFeatures,
        coordinates: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        mask: Floats | None = None,
        multimask: bool = True,
    ) -> tuple[Floats, Floats]:
        """Answer B prompts -> logits (B, M, h, w) over the whole input, scores (B, M). M is 3, or 1 where not
        `multimask`: the one with the highest score.

        coordinates (B, K, 2) x y in pixels of the image; labels (B, K): 1 foreground, 0 background, 2 and 3 the upper
        left and lower right corner of a box, -1 no point; mask (B, h, w): logits of an earlier answer. Raises
        ValueError for more points a prompt than the network takes.
        """
        if labels.shape[1] > self.settings.points:
            raise ValueError(f"a prompt has {labels.shape[1]} points; the network takes {self.settings.points}")
        most, batches = self._decoder.facts.capacity["prompts"], []
        for first in range(0, len(labels), most):
            rows = slice(first, first + most)
            batches.append(
                self._answer(features, coordinates[rows], labels[rows], None if mask is None else mask[rows])
            )
        logits, scores = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        if multimask:
            return logits, scores
        best = scores.argmax(1)[:, None]
        return np.take_along_axis(logits, best[..., None, None], 1), np.take_along_axis(scores, best, 1)

    def close(self) -> None:
        """Free the engines."""
        for engine in self.engines:
            engine.close()

    def _answer(
        self,
        features: CompactFeatures,
        coordinates: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        mask: Floats | None,
    ) -> tuple[Floats, Floats]:
        count, points = labels.shape
        rows = self._decoder.facts.capacity["prompts"] if self._decoder.pads_to_capacity else count
        places = np.zeros((rows, self.settings.points, 2), np.float32)
        kinds = np.full((rows, self.settings.points), -1, np.int64)
        places[:count, :points], kinds[:count, :points] = features.frame.to_input(coordinates), labels
        earlier = np.zeros((rows, 1, *self.settings.mask_size), np.float32)
        has = np.zeros(rows, np.float32)
        if mask is not None:
            earlier[:count, 0], has[:count] = mask, 1
        outputs = self._decoder(**features.arrays, coordinates=places, labels=kinds, mask=earlier, has_mask=has)
        return outputs["logits"][:count], outputs["scores"][:count]
