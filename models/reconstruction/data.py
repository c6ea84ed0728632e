# SPDX-License-Identifier: Apache-2.0
"""Training sequences for reconstruction: stretches of camera paths through simulated rooms, and single views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from perception_models.reconstruction.settings import ReconstructionSettings
from perception_models.relight import relit
from perception_models.simulation.room_tours import ON_PATH, Tour, Tours

Rng = np.random.Generator
REFRESH = 100  # sequences after which new tours are looked for
STRIDES = (1, 3)  # views of a path between those of a sequence
CLOSE = 0.25  # share of single views that may be close ones


@dataclass(frozen=True)
class Sequence:
    """rgb (T, h, w, 3) uint8, depth (T, h, w) float16 m, poses (T, 4, 4) float32 camera -> room, focal (T,) pixels;
    fresh (T,): where the state begins anew, so that this view's camera is the world."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float16]
    poses: NDArray[np.float32]
    focal: NDArray[np.float32]
    fresh: NDArray[np.bool_]


class Batch(NamedTuple):
    """What the network learns from: rgb (B, T, 3, H, W) -1 to 1; points_self and points (B, T, H, W, 3) m, in the frame
    of the camera and of the world; valid (B, T, H, W); poses (B, T, 4, 4) camera -> world; fresh (B, T)."""

    rgb: Tensor
    points_self: Tensor
    points: Tensor
    valid: Tensor
    poses: Tensor
    fresh: Tensor


class SequenceStream(IterableDataset[Sequence]):
    """Sequences of `length` views without end, from the tours in a folder, which may be filled meanwhile; a share
    `single` of them are views that have nothing to do with each other."""

    def __init__(self, folder: Path, seed: int, length: int, single: float) -> None:
        super().__init__()
        self.folder, self.seed, self.length, self.single = folder, seed, length, single

    def __iter__(self) -> Iterator[Sequence]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        tours = Tours(self.folder)
        while True:
            tours.refresh()
            for _ in range(REFRESH):
                is_single = rng.random() < self.single
                yield (single_views if is_single else stretch)(tours.draw(rng), self.length, rng)


def stretch(tour: Tour, length: int, rng: Rng) -> Sequence:
    """Views of the path, in either direction; where it is too short it is walked back."""
    stride = int(rng.integers(STRIDES[0], STRIDES[1] + 1))
    there_and_back = np.concatenate([np.arange(ON_PATH), np.arange(ON_PATH - 2, 0, -1)])
    start, way = int(rng.integers(len(there_and_back))), rng.choice((-1, 1))
    views = there_and_back[(start + way * stride * np.arange(length)) % len(there_and_back)]
    return _sequence(tour, views, np.arange(length) == 0)


def single_views(tour: Tour, length: int, rng: Rng) -> Sequence:
    """Views of the room in any order, each a stream of its own; close ones are few, else all would seem near."""
    on_path, anywhere = rng.integers(ON_PATH, size=length), rng.integers(len(tour.focal), size=length)
    return _sequence(tour, np.where(rng.random(length) < CLOSE, anywhere, on_path), np.ones(length, bool))


def _sequence(tour: Tour, views: NDArray[np.integer], fresh: NDArray[np.bool_]) -> Sequence:
    focal = tour.focal[views].astype(np.float32) / 2  # of the small images
    return Sequence(tour.small_rgb[views], tour.small_depth[views], tour.poses[views].astype(np.float32), focal, fresh)


def collate(sequences: list[Sequence]) -> dict[str, Tensor]:
    """The arrays of sequences (B, T, ...), by name."""
    names = ("rgb", "depth", "poses", "focal", "fresh")
    return {name: torch.from_numpy(np.stack([getattr(one, name) for one in sequences])) for name in names}


def batches(stream: SequenceStream, size: int, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches without end, made by worker processes."""
    loader = DataLoader(stream, size, num_workers=workers, collate_fn=collate, prefetch_factor=3 if workers else None)
    return iter(loader)


def prepared(raw: dict[str, Tensor], settings: ReconstructionSettings) -> Batch:
    """What `collate` gives, on any device, as seen by the canonical camera: relit, half of it mirrored."""
    raw = mirrored(raw, torch.rand(len(raw["rgb"]), device=raw["rgb"].device) < 0.5)
    rgb, depth, inside = canonical(raw["rgb"], raw["depth"], raw["focal"], settings)
    rgb = relit(rgb) * inside + 0.5 * (1 - inside)  # grey where the image does not reach
    points_self = depth.unsqueeze(-1) * canonical_rays(settings, depth.device)
    poses = relative(raw["poses"], raw["fresh"])
    points = torch.einsum("btij,bthwj->bthwi", poses[..., :3, :3], points_self) + poses[..., None, None, :3, 3]
    return Batch(2 * rgb - 1, points_self, points, depth > 0, poses, raw["fresh"])


def mirrored(raw: dict[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    """Some of the sequences (B,) seen in a mirror: images flipped, and the rooms with them."""
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1], device=which.device))
    each = which.view(-1, 1, 1, 1)
    return raw | {
        "rgb": torch.where(each.unsqueeze(-1), raw["rgb"].flip(3), raw["rgb"]),
        "depth": torch.where(each, raw["depth"].flip(3), raw["depth"]),
        "poses": torch.where(each, mirror @ raw["poses"] @ mirror, raw["poses"]),
    }


def canonical(
    rgb: Tensor, depth: Tensor, focal: Tensor, settings: ReconstructionSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, T, h, w, 3) uint8 of cameras with focal lengths (B, T) as the canonical camera sees them: rgb
    (B, T, 3, H, W) 0 to 1, depth (B, T, H, W), and which pixels (B, T, 1, H, W) show the image, 1 or 0."""
    sizes = rgb.shape[:2]
    scale = focal.flatten() / settings.focal
    rows, columns = ((torch.arange(n, device=rgb.device) - (n - 1) / 2) for n in (settings.height, settings.width))
    x, y = (2 * scale[:, None] * part / n for part, n in ((columns, rgb.shape[3]), (rows, rgb.shape[2])))
    shape = (len(scale), settings.height, settings.width)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)
    image = rgb.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
    seen = functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    deep = functional.grid_sample(depth.flatten(0, 1).unsqueeze(1).float(), grid, mode="nearest", align_corners=False)
    inside = (grid.abs() <= 1).all(-1).float()
    return (
        torch.unflatten(seen, 0, sizes),
        torch.unflatten(deep.squeeze(1) * inside, 0, sizes),
        torch.unflatten(inside.unsqueeze(1), 0, sizes),
    )


def canonical_rays(settings: ReconstructionSettings, device: torch.device) -> Tensor:
    """Directions (H, W, 3), z = 1, of the canonical camera's pixels."""
    y, x = ((torch.arange(n, device=device) - (n - 1) / 2) / settings.focal for n in (settings.height, settings.width))
    shape = (settings.height, settings.width)
    return torch.stack([x.expand(shape), y[:, None].expand(shape), torch.ones(shape, device=device)], -1)


def relative(poses: Tensor, fresh: Tensor) -> Tensor:
    """Poses (B, T, 4, 4) seen from the last view that began anew, where `fresh` (B, T)."""
    steps = torch.arange(fresh.shape[1], device=fresh.device)
    first = torch.where(fresh, steps, torch.zeros_like(steps)).cummax(1).values
    origins = torch.take_along_dim(poses, first[..., None, None], 1)
    back = origins[..., :3, :3].mT
    turned = back @ poses[..., :3, :]
    moved = torch.cat([turned[..., :3], turned[..., 3:] - back @ origins[..., :3, 3:]], -1)
    return torch.cat([moved, poses[..., 3:, :]], -2)
