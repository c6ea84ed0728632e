# SPDX-License-Identifier: Apache-2.0
"""Training samples for masks from prompts: views of simulated rooms without end, clicks and boxes on their things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from perception_models.segmentation.compact_input import depth_channels
from perception_models.segmentation.compact_settings import CompactSettings
from perception_models.segmentation.views import room_views
from perception_models.simulation.room_catalogue import Catalogue
from perception_models.simulation.rooms import RoomView

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Rng = np.random.Generator

VIEWS = 10  # of a room, to share the cost of building it
USES = 2  # of a view, on average: drawing one takes longer than learning from it
KEPT = 60  # views among which the next one is drawn, so that a batch shows different rooms
SMALLEST = 60  # pixels of a mask at half resolution
COMPACT = 0.5  # least share of a mask that is left after an opening: less is speckle or hair


@dataclass(frozen=True)
class Sample:
    """rgb (3, H, W) 0 to 1, depth (2, H, W) (see compact_input), masks (P, h, w) at half resolution."""

    rgb: Floats
    depth: Floats
    masks: Bools


class ViewStream(IterableDataset[Sample]):
    """Samples without end, each worker with rooms of its own."""

    def __init__(self, seed: int, settings: CompactSettings, prompts: int) -> None:
        super().__init__()
        self.seed, self.settings, self.prompts = seed, settings, prompts

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        views, kept = self._views(rng), list[RoomView]()
        while True:
            while len(kept) < KEPT:
                kept.append(next(views))
                if len(kept) % VIEWS == 0 and len(kept) < KEPT:
                    break  # begin with what there is
            index = int(rng.integers(len(kept)))
            view = kept.pop(index) if rng.random() < 1 / USES else kept[index]
            sample = make_sample(view, self.prompts, rng)
            if sample is not None:
                yield sample

    def _views(self, rng: Rng) -> Iterator[RoomView]:
        catalogue = Catalogue.fetched()
        while True:
            yield from room_views(rng, VIEWS, self.settings.width, self.settings.height, catalogue)


def make_sample(view: RoomView, prompts: int, rng: Rng) -> Sample | None:
    """A view with `prompts` of its masks, some of them again where there are fewer; None where there is none."""
    masks = masks_of(view.instances)
    if not masks:
        return None
    chosen = rng.permutation(len(masks))[:prompts]
    chosen = np.append(chosen, rng.integers(len(masks), size=prompts - len(chosen)))
    rgb = relit(view.frame.rgb, rng)
    depth = depth_channels(view.frame.depth if rng.random() < 0.6 else None, rgb.shape)
    picked = np.stack([masks[index] for index in chosen])
    if rng.random() < 0.5:
        rgb, depth, picked = rgb[:, ::-1], depth[..., ::-1], picked[..., ::-1]
    image = np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32) / np.float32(255)
    return Sample(image, np.ascontiguousarray(depth), np.ascontiguousarray(picked))


def masks_of(instances: NDArray[np.int32]) -> list[Bools]:
    """Masks (h, w) at half resolution of the things in an instance image (H, W), those that are large and whole enough.

    The building is in none: what of it belongs together is not told by its instance.
    """
    half = instances[::2, ::2]
    numbers, counts = np.unique(half, return_counts=True)
    kernel = np.ones((3, 3), np.uint8)
    found = []
    for number in numbers[(counts >= SMALLEST) & (numbers > 0)]:
        mask = half == number
        opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
        if opened.sum() >= COMPACT * mask.sum():
            found.append(mask)
    return found


def relit(rgb: NDArray[np.uint8], rng: Rng) -> Floats:
    """The image (H, W, 3) under another light and through a worse lens, 0 to 255."""
    image = rgb.astype(np.float32) * rng.uniform(0.75, 1.25, 3).astype(np.float32)
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(rng.uniform(0.3, 1.4))
    image = 255 * (np.clip(image, 0, 255) / 255) ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    if rng.random() < 0.4:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4)), np.float32)
    if rng.random() < 0.4:
        image = image + rng.normal(0, rng.uniform(1, 8), image.shape).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.float32)


def collate(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """rgb (B, 3, H, W), depth (B, 2, H, W), masks (B, P, h, w) bool."""
    return (
        torch.from_numpy(np.stack([sample.rgb for sample in samples])),
        torch.from_numpy(np.stack([sample.depth for sample in samples])),
        torch.from_numpy(np.stack([sample.masks for sample in samples])),
    )


def batches(stream: ViewStream, size: int, workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches without end, made by worker processes."""
    loader = DataLoader(stream, size, num_workers=workers, collate_fn=collate, prefetch_factor=4 if workers else None)
    return iter(loader)


def first_prompts(masks: Bools, stride: int, points: int, rng: Rng) -> tuple[Floats, NDArray[np.int64]]:
    """One prompt for each mask (N, h, w): coordinates (N, points, 2) x y in input pixels, labels (N, points): 1 a click
    inside, 2 and 3 the corners of a box, -1 none. Half of the clicks are deep inside, where a user would click."""
    coordinates = np.zeros((len(masks), points, 2), np.float32)
    labels = np.full((len(masks), points), -1, np.int64)
    for row, mask in enumerate(masks):
        if rng.random() < 0.25:
            coordinates[row, :2], labels[row, :2] = _loose_box(mask, rng), (2, 3)
        else:
            coordinates[row, 0], labels[row, 0] = click_in(mask, rng), 1
    return (coordinates + 0.5) * stride - 0.5, labels


def click_in(mask: Bools, rng: Rng) -> Floats:
    """A pixel x y of a mask (h, w): half of the time near the middle of its thickest part."""
    rows, columns = np.nonzero(mask)
    if rng.random() < 0.5:
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        keep = depth[rows, columns] >= rng.uniform(0.5, 1.0) * depth.max()
        rows, columns = rows[keep], columns[keep]
    index = int(rng.integers(len(rows)))
    return np.array([columns[index], rows[index]], np.float32)


def _loose_box(mask: Bools, rng: Rng) -> Floats:
    """The two corners (2, 2) of a mask's box, off by up to a tenth of its sides."""
    rows, columns = np.nonzero(mask)
    low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()])
    error = rng.normal(0, 0.05, (2, 2)).clip(-0.1, 0.1) * (high - low)
    return np.asarray(np.stack([low, high]) + error, np.float32)


def next_clicks(wrong: Bools, masks: Bools, stride: int, rng: Rng) -> tuple[Floats, NDArray[np.int64]]:
    """A click into each error region (N, h, w), x y in input pixels (N, 2), with its label (N,): 1 where the mask was
    missed, 0 where too much was taken; -1 where nothing is wrong."""
    clicks, labels = np.zeros((len(masks), 2), np.float32), np.full(len(masks), -1, np.int64)
    for row in np.flatnonzero(wrong.any(axis=(1, 2))):
        x, y = click_in(wrong[row], rng).astype(int)
        clicks[row], labels[row] = (x, y), int(masks[row, y, x])
    return (clicks + 0.5) * stride - 0.5, labels
