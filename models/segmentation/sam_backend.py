# SPDX-License-Identifier: Apache-2.0
"""SAM at run time: an image fitted to its input, prompts in batches, on the engines of an imported checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.runtime import BadWeights, Engine, load_engine
from perception_models.runtime.facts import load_facts
from perception_models.runtime.tensors import Arrays
from perception_models.segmentation.sam_settings import SamSettings

Floats = NDArray[np.float32]
MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of RGB, as SAM was trained
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
NO_POINT, LAST_LABEL = -1, 3


@dataclass(frozen=True)
class SamFeatures:
    """What the encoder says about one image, which fills the upper left of a square input."""

    values: Floats  # (1, channels, grid, grid), of the whole square
    size: tuple[int, int]  # (width, height) of the image
    filled: tuple[int, int]  # (columns, rows) of the input that show the image

    @property
    def scale(self) -> Floats:
        """Input pixels an image pixel (2,), x and y."""
        return np.divide(self.filled, self.size, dtype=np.float32)


class SamBackend:
    """Encoder and decoder of SAM behind the interface of a mask predictor. Depth is not looked at."""

    def __init__(self, encoders: Sequence[Engine], decoder: Engine) -> None:
        """Encoders in the order in which an image passes them. Raises BadWeights where the decoder's model.yaml lacks
        the network's settings."""
        self._encoders = tuple(encoders)
        self._decoder = decoder
        self.settings = _settings(decoder.facts.settings, decoder.facts.folder)

    @classmethod
    def load(cls, folder: Path, backend: str = "auto", threads: int | None = None) -> SamBackend:
        """Load the folder that `checkpoints.import_weights` wrote; raises as `runtime.load_engine` does."""
        names = load_facts(folder / "decoder").settings.get("encoders", ["encoder"])
        engines = [load_engine(folder / name, backend, threads=threads) for name in (*names, "decoder")]
        return cls(engines[:-1], engines[-1])

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of the input in pixels."""
        return self.settings.image_size, self.settings.image_size

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Encoders and decoder, to see what runs."""
        return *self._encoders, self._decoder

    def encode(self, rgb: NDArray[np.uint8], depth: Floats | None = None) -> SamFeatures:
        """An image (H, W, 3) uint8 RGB -> its features. Raises ValueError for another shape or type."""
        x, filled = fit(rgb, self.settings.image_size)
        for engine in self._encoders:
            (name,), (output,) = engine.facts.inputs, engine.facts.outputs
            x = engine(**{name: x})[output]
        return SamFeatures(x, (rgb.shape[1], rgb.shape[0]), filled)

    def decode(
        self,
        features: SamFeatures,
        coordinates: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        mask: Floats | None = None,
        multimask: bool = True,
    ) -> tuple[Floats, Floats]:
        """Answer B prompts -> logits (B, M, h, w) over the square input, 4 of its pixels each, and scores (B, M),
        predicted IoU. M is 3: whole, part, subpart; or 1, for prompts that leave no doubt, where not `multimask`.

        coordinates (B, K, 2) x y in pixels of the image; labels (B, K): 1 foreground, 0 background, 2 and 3 the upper
        left and lower right corner of a box, -1 no point; mask (B, h, w) logits of an earlier answer. Raises
        ValueError for other shapes and labels, and for more points a prompt than the engine takes.
        """
        self._check(coordinates, labels, mask)
        prompts: Arrays = {
            "coordinates": np.asarray(coordinates * features.scale, np.float32),
            "labels": np.asarray(labels, np.int64),
            "mask": self._no_masks(len(labels)) if mask is None else np.asarray(mask[:, None], np.float32),
            "has_mask": np.full(len(labels), mask is not None, np.float32),
        }
        most = self._decoder.facts.capacity["prompts"]
        batches = [
            self._answer(features.values, {name: values[first : first + most] for name, values in prompts.items()})
            for first in range(0, len(labels), most)
        ]
        logits, scores = (np.concatenate([batch[name] for batch in batches]) for name in ("logits", "scores"))
        chosen = slice(1, None) if multimask else slice(1)
        return logits[:, chosen], scores[:, chosen]

    def close(self) -> None:
        """Free the engines."""
        for engine in self.engines:
            engine.close()

    def _answer(self, features: Floats, prompts: Arrays) -> Arrays:
        """All masks of at most as many prompts as the engine takes."""
        count, points = prompts["labels"].shape
        capacity = self._decoder.facts.capacity
        rows, columns = (
            (capacity["prompts"], capacity["points"]) if self._decoder.pads_to_capacity else (count, max(points, 1))
        )
        outputs = self._decoder(
            features=features,
            coordinates=_padded(prompts["coordinates"], (rows, columns, 2), 0),
            labels=_padded(prompts["labels"], (rows, columns), NO_POINT),
            mask=_padded(prompts["mask"], (rows, *prompts["mask"].shape[1:]), 0),
            has_mask=_padded(prompts["has_mask"], (rows,), 0),
        )
        return {name: values[:count] for name, values in outputs.items()}

    def _no_masks(self, count: int) -> Floats:
        side = self.settings.mask_size
        return np.zeros((count, 1, side, side), np.float32)

    def _check(self, coordinates: NDArray[Any], labels: NDArray[Any], mask: Floats | None) -> None:
        if labels.ndim != 2 or not len(labels) or coordinates.shape != (*labels.shape, 2):
            raise ValueError(
                f"prompts are coordinates (B, K, 2) and labels (B, K) of B > 0 prompts, got {coordinates.shape} and "
                f"{labels.shape}"
            )
        if not np.isin(labels, range(NO_POINT, LAST_LABEL + 1)).all():
            raise ValueError(f"labels are 1, 0, 2 and 3 (box corners) or -1 (no point), got {np.unique(labels)}")
        if not np.isfinite(coordinates).all():
            raise ValueError("coordinates of a prompt are not finite")
        most = self._decoder.facts.capacity["points"]
        if labels.shape[1] > most:
            raise ValueError(f"a prompt has {labels.shape[1]} points (a box is two); this engine takes {most}")
        side = self.settings.mask_size
        if mask is not None and mask.shape != (len(labels), side, side):
            raise ValueError(f"masks of {len(labels)} prompts are ({len(labels)}, {side}, {side}), got {mask.shape}")


def fit(rgb: NDArray[np.uint8], side: int) -> tuple[Floats, tuple[int, int]]:
    """The image (H, W, 3), its longer side made `side`, normalised, with zeros at its right and lower border
    -> (1, 3, side, side), (columns, rows) that show it. Raises ValueError for another shape or type."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"an image is (H, W, 3) uint8 RGB, got {rgb.shape} {rgb.dtype}")
    height, width = rgb.shape[:2]
    factor = side / max(height, width)
    columns, rows = (max(1, int(length * factor + 0.5)) for length in (width, height))
    resized = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    image = np.zeros((1, 3, side, side), np.float32)
    image[0, :, :rows, :columns] = ((resized - MEAN) / DEVIATION).transpose(2, 0, 1)
    return image, (columns, rows)


def _padded(values: NDArray[Any], shape: tuple[int, ...], fill: float) -> NDArray[Any]:
    """`values` in the first places of an array of another shape."""
    padded = np.full(shape, fill, values.dtype)
    padded[tuple(slice(length) for length in values.shape)] = values
    return padded


def _settings(facts: Any, folder: Path) -> SamSettings:
    try:
        return SamSettings.from_dict(facts["sam"])
    except (KeyError, TypeError) as error:
        raise BadWeights(f"{folder / 'model.yaml'} lacks the settings of SAM ({error!r}); import it again") from error
