# SPDX-License-Identifier: Apache-2.0
"""Whether memory stays the same and the answers stay numbers over a long stream."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from perception_models.evaluation.latency import percentiles
from perception_models.evaluation.machine import resident_memory
from perception_models.geometry.cameras import RgbdFrame
from perception_models.reconstruction import CloudMap, OnlineSettings, Reconstructor
from perception_models.reconstruction.backend import Network

PART = 500  # images at each end over which memory is averaged; of shorter runs a quarter


def there_and_back(count: int, images: int) -> Iterator[int]:
    """0, 1, ... count - 1, count - 2, ... 1, 0, 1, ...: never the same twice in a row. Raises ValueError for fewer than
    two."""
    if count < 2:
        raise ValueError(f"{count} images cannot be gone through there and back")
    for step in range(images):
        place = step % (2 * count - 2)
        yield place if place < count else 2 * count - 2 - place


def endure(
    network: Network, frames: Sequence[RgbdFrame], images: int, settings: OnlineSettings | None = None
) -> dict[str, float]:
    """Take in `images` of frames, there and back, with a map beside: resident memory in MB at the start and at the end,
    its growth in percent, milliseconds an image, and what went wrong."""
    reconstructor, cloud_map = Reconstructor(network, settings), CloudMap()
    memory, spent, invalid, worlds = list[float](), list[float](), 0, 0
    for number in there_and_back(len(frames), images):
        view = reconstructor.update(frames[number].rgb, frames[number].camera_matrix)
        cloud_map.add(view)
        memory.append(resident_memory(os.getpid()))
        spent.append(sum(reconstructor.timing.values()))
        invalid, worlds = invalid + (not view.valid), max(worlds, view.world + 1)
    part = min(PART, max(images // 4, 1))
    first, last = float(np.mean(memory[:part])), float(np.mean(memory[-part:]))
    latency = percentiles(spent[1:] or spent)
    counts = {
        "images": float(images),
        "invalid": float(invalid),
        "worlds": float(worlds),
        "voxels": float(len(cloud_map)),
    }
    growth = {"first_mb": first, "last_mb": last, "growth_percent": 100 * (last / first - 1)}
    return {**counts, **growth, "p50_ms": latency["p50"], "p95_ms": latency["p95"]}
