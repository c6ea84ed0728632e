# SPDX-License-Identifier: Apache-2.0
"""Training samples for masks from prompts: views of simulated rooms, and parts of them to ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from perception_models.segmentation.compact_input import depth_channels
from perception_models.segmentation.compact_settings import MASK_STRIDE
from perception_models.simulation.room_tours import Tour, Tours

Rng = np.random.Generator
REFRESH = 200  # samples after which new tours are looked for
WITH_DEPTH = 0.6  # of the samples
PLANES = 0.15  # of what is asked for are planes of the building


@dataclass(frozen=True)
class Sample:
    """rgb (3, H, W) uint8, depth (2, H, W) float16 (see compact_input), parts (h, w) uint8 at half resolution, and the
    numbers (P,) of those that are asked for."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float16]
    parts: NDArray[np.uint8]
    asked: NDArray[np.uint8]


class ViewStream(IterableDataset[Sample]):
    """Samples without end from the tours in a folder, which may be filled meanwhile."""

    def __init__(self, folder: Path, seed: int, prompts: int) -> None:
        super().__init__()
        self.folder, self.seed, self.prompts = folder, seed, prompts

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        tours = Tours(self.folder)
        while True:
            tours.refresh()
            for _ in range(REFRESH):
                sample = make_sample(tours.draw(rng), self.prompts, rng)
                if sample is not None:
                    yield sample


def make_sample(tour: Tour, prompts: int, rng: Rng) -> Sample | None:
    """A view with `prompts` of its parts, some of them again where there are fewer; None where there is none."""
    view = int(rng.integers(len(tour.rgb)))
    asked = _ask(tour.whole[view], int(tour.things[view]), prompts, rng)
    if asked is None:
        return None
    rgb = tour.rgb[view].transpose(2, 0, 1)
    depth = depth_channels(tour.sensed[view].astype(np.float32) if rng.random() < WITH_DEPTH else None, rgb.shape[1:])
    parts = tour.parts[view][::MASK_STRIDE, ::MASK_STRIDE]
    if rng.random() < 0.5:
        rgb, depth, parts = rgb[..., ::-1], depth[..., ::-1], parts[..., ::-1]
    return Sample(
        np.ascontiguousarray(rgb),
        np.ascontiguousarray(depth, np.float16),
        np.ascontiguousarray(parts),
        asked.astype(np.uint8),
    )


def _ask(whole: NDArray[np.bool_], things: int, prompts: int, rng: Rng) -> NDArray[np.int64] | None:
    """Numbers (prompts,) of whole parts: things before planes, each once before any comes again."""
    numbers = np.flatnonzero(whole)
    if not len(numbers):
        return None
    chance = np.where(numbers <= things, 1 - PLANES, PLANES)
    count = min(prompts, len(numbers))
    chosen = rng.choice(numbers, count, replace=False, p=chance / chance.sum())
    return np.append(chosen, rng.choice(numbers, prompts - count, p=chance / chance.sum()))


def collate(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rgb (B, 3, H, W) uint8, depth (B, 2, H, W) float16, parts (B, h, w) uint8, asked (B, P) uint8."""
    names = ("rgb", "depth", "parts", "asked")
    rgb, depth, parts, asked = (torch.from_numpy(np.stack([getattr(s, name) for s in samples])) for name in names)
    return rgb, depth, parts, asked


def batches(stream: ViewStream, size: int, workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Batches without end, made by worker processes."""
    loader = DataLoader(stream, size, num_workers=workers, collate_fn=collate, prefetch_factor=4 if workers else None)
    return iter(loader)
