# SPDX-License-Identifier: Apache-2.0
"""Training batches from the simulator: fresh scenes for ever, made by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from perception_models.detection.box_coding import cell_centres
from perception_models.detection.preprocess import prepare
from perception_models.detection.settings import DetectionSettings
from perception_models.detection.targets import Targets, draw_targets
from perception_models.simulation.frame import LidarFrame
from perception_models.simulation.sampler import FrameSampler

Floats = npt.NDArray[np.float32]


@dataclass
class Batch:
    """`inputs` for `CompactDetector` (a batch of scans joined along their rows) and the targets of `draw_targets`,
    with flat cell
    indices over (B, H, W); boxes (M, 7) and centres (M, 2) of the regressing cells stay in numpy."""

    size: int
    inputs: dict[str, Tensor]
    heatmap: Tensor
    learn: Tensor
    cells: Tensor
    codes: Tensor
    weights: Tensor
    boxes: Floats
    centres: Floats


@dataclass(frozen=True)
class Sample:
    """One scan's network input tensors and targets."""

    tensors: dict[str, npt.NDArray[np.generic]]
    targets: Targets


class SampleStream(IterableDataset[Sample]):
    """Endless augmented samples; each worker draws its own scenes from (seed, worker).

    Casting rays costs more than turning a scan: each frame is used `USES` times, turned otherwise and among `POOL`
    others.
    """

    POOL = 64
    USES = 3

    def __init__(self, seed: int, settings: DetectionSettings) -> None:
        self.seed = seed
        self.settings = settings

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        seed = self.seed * 64 + (worker.id if worker else 0)
        sampler, rng = FrameSampler(seed), np.random.default_rng(seed)
        pool: list[LidarFrame] = []
        while True:
            frame = sampler.sample()
            pool.append(frame)
            yield make_sample(frame, rng, self.settings)
            for _ in range(self.USES - 1):
                yield make_sample(pool[rng.integers(len(pool))], rng, self.settings)
            del pool[: len(pool) - self.POOL]


def make_sample(frame: LidarFrame, rng: np.random.Generator, settings: DetectionSettings) -> Sample:
    """A frame turned and mirrored at random, as network input with its targets."""
    points, boxes = turn_and_mirror(frame.points, frame.boxes, rng)
    targets = draw_targets(boxes, frame.labels, frame.num_points, settings)
    return Sample(prepare(points, settings).tensors, targets)


def turn_and_mirror(points: Floats, boxes: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A random turn about the sensor's vertical axis and, half of the time, a mirror image."""
    angle = rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    points, boxes = points.copy(), boxes.copy()
    if rng.random() < 0.5:
        points[:, 1] *= -1
        boxes[:, 1] *= -1
        boxes[:, 6] *= -1
    points[:, :2] = points[:, :2] @ turn
    boxes[:, :2] = boxes[:, :2] @ turn
    boxes[:, 6] += angle
    return points, boxes


def collate(samples: list[Sample], settings: DetectionSettings) -> Batch:
    """Join samples: all tokens first, then all flat pillars, as `CompactDetector` expects; indices are moved along."""
    size = settings.grid.size // settings.stride
    targets = [sample.targets for sample in samples]
    positives = [t.cells + k * size * size for k, t in enumerate(targets)]
    flat = np.concatenate([t.cells for t in targets])
    return Batch(
        size=len(samples),
        inputs={name: torch.from_numpy(value) for name, value in join_inputs([s.tensors for s in samples]).items()},
        heatmap=torch.from_numpy(np.stack([t.heatmap for t in targets])),
        learn=torch.from_numpy(np.stack([t.learn for t in targets])),
        cells=torch.from_numpy(np.concatenate(positives)),
        codes=torch.from_numpy(np.concatenate([t.codes for t in targets])),
        weights=torch.from_numpy(np.concatenate([t.weights for t in targets])),
        boxes=np.concatenate([t.boxes for t in targets]),
        centres=cell_centres(flat // size, flat % size, settings),
    )


def join_inputs(scans: list[dict[str, npt.NDArray[np.generic]]]) -> dict[str, npt.NDArray[np.generic]]:
    """Join the input tensors of several scans along their rows, tokens before flat pillars."""
    tokens = [len(scan["token_bias"]) for scan in scans]
    flat = [len(scan["statistics"]) - count for scan, count in zip(scans, tokens, strict=True)]
    joined: dict[str, npt.NDArray[np.generic]] = {}
    for name in scans[0]:
        parts = [scan[name] for scan in scans]
        if name in ("occupancy", "statistics"):
            parts = [part[:t] for part, t in zip(parts, tokens, strict=True)] + [
                part[t:] for part, t in zip(parts, tokens, strict=True)
            ]
        elif name in ("orders", "inverse"):
            parts = [part + sum(tokens[:k]) for k, part in enumerate(parts)]
        elif name == "bev_rows":
            parts = [_moved_rows(part, k, tokens, flat) for k, part in enumerate(parts)]
        joined[name] = np.concatenate(parts, axis=1 if name in ("orders", "inverse", "positions") else 0)
    return joined


def _moved_rows(
    bev_rows: npt.NDArray[np.generic], scan: int, tokens: list[int], flat: list[int]
) -> npt.NDArray[np.generic]:
    """Row indices of one scan after joining: tokens of all scans, flat pillars of all scans, then the empty row."""
    own = tokens[scan]
    places = np.concatenate(
        [
            np.arange(own) + sum(tokens[:scan]),
            np.arange(flat[scan]) + sum(tokens) + sum(flat[:scan]),
            [sum(tokens) + sum(flat)],
        ]
    )
    return np.asarray(places[bev_rows])


def batches(seed: int, settings: DetectionSettings, batch_size: int, workers: int) -> Iterator[Batch]:
    """Endless batches made by `workers` processes (0: in this one)."""
    loader: DataLoader[Batch] = DataLoader(
        SampleStream(seed, settings),  # type: ignore[arg-type]
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_Collate(settings),
        prefetch_factor=4 if workers else None,
    )
    yield from loader


@dataclass(frozen=True)
class _Collate:
    settings: DetectionSettings

    def __call__(self, samples: list[Sample]) -> Batch:
        return collate(samples, self.settings)
