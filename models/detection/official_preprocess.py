# SPDX-License-Identifier: Apache-2.0
"""From a point cloud to the input tensors of the official detectors, and the facts that fix both. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_models.detection.dsvt_sets import SetWindows, rotated_sets
from perception_models.detection.grouping import flatten_windows
from perception_models.detection.preprocess import MASKED, NetworkInput
from perception_models.geometry.pillars import Floats, Ints, PillarGrid, Pillars, group_into_pillars, rows_of_cells

Tensors = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class OfficialSettings:
    """What the official detectors have in common.

    grid: in the training data's frame, whose z = 0 is the ground for Waymo and the sensor for nuScenes.
    intensity: "tanh" or "byte" (0..255), how the training data stored it. doublings: see `bev_backbones.run_maximum`;
    a pillar holds at most 2 ** doublings points.
    """

    grid: PillarGrid
    channels: int
    feedforward: int
    heads: int = 8
    blocks: int = 4
    intensity: str = "tanh"
    max_points: int = 196608
    max_pillars: int = 32832
    doublings: int = 11


@dataclass(frozen=True)
class DsvtSettings(OfficialSettings):
    """windows: the plain and the shifted windowing. scales: of the bird's-eye levels. centre_head: is there one?"""

    windows: tuple[SetWindows, SetWindows] = (SetWindows((12, 12)), SetWindows((24, 24), (6, 6)))
    set_size: int = 36
    scales: tuple[float, float, float] = (1, 2, 4)
    centre_head: bool = True

    def max_sets(self, windows: SetWindows) -> int:
        """No cloud within max_pillars makes more sets: a window has at most one set that is not full."""
        along = [-(-(self.grid.size + shift) // size) for size, shift in zip(windows.size, windows.shift, strict=True)]
        return along[0] * along[1] + self.max_pillars // self.set_size


@dataclass(frozen=True)
class FlatFormerSettings(OfficialSettings):
    """group: tokens of one attention group, a divisor of max_pillars. window: its side in cells."""

    group: int = 144
    window: int = 13


WAYMO = PillarGrid(extent=74.88, cell=0.32, z_low=-2.0, z_high=4.0)
NUSCENES = PillarGrid(extent=54.0, cell=0.3, z_low=-5.0, z_high=3.0)
OFFICIAL: dict[str, OfficialSettings] = {
    "dsvt_pillar_waymo": DsvtSettings(WAYMO, channels=192, feedforward=384),
    "dsvt_pillar_nuscenes": DsvtSettings(
        NUSCENES,
        channels=128,
        feedforward=256,
        intensity="byte",
        windows=(SetWindows((30, 30)), SetWindows((30, 30), (15, 15))),
        set_size=90,
        scales=(0.5, 1, 2),
        centre_head=False,
    ),
    "flatformer_waymo": FlatFormerSettings(WAYMO, channels=128, feedforward=256, blocks=2),
}


def prepare_official(points: Floats, settings: OfficialSettings, pad_to_capacity: bool = False) -> NetworkInput:
    """Turn an (N, 4) cloud x y z intensity (m and 0..1, in the frame of the grid) into an official detector's input.

    The fifth feature of the training data (Waymo's elongation, nuScenes' age of the sweep) is not known here and zero.
    A cloud without a finite point inside the grid gives padding alone, which shows the network an empty scene.
    """
    pillars, overflow = _within_capacity(group_into_pillars(points, settings.grid), settings)
    tensors = _pillar_tensors(pillars, settings, pad_to_capacity)
    cells = settings.grid.coordinates(pillars.cells)
    rows = len(tensors["pillar_first"])
    if isinstance(settings, DsvtSettings):
        for number in range(2):
            tensors.update(_set_tensors(cells, settings, number, rows, pad_to_capacity))
    elif isinstance(settings, FlatFormerSettings):
        tensors.update(_group_tensors(cells, settings, rows))
    return NetworkInput(tensors, overflow)


def _within_capacity(pillars: Pillars, settings: OfficialSettings) -> tuple[Pillars, int]:
    """The nearest pillars that fit with all their points, and how many were left out or thinned."""
    most = 2**settings.doublings
    counts = np.minimum(pillars.counts, most)
    nearest = np.argsort(np.square(settings.grid.centres(pillars.cells)).sum(axis=1), kind="stable")
    fits = np.cumsum(counts[nearest]) <= settings.max_points
    fits[settings.max_pillars :] = False
    kept = np.sort(nearest[fits])

    starts = np.cumsum(counts[kept]) - counts[kept]
    owner = np.repeat(np.arange(len(kept)), counts[kept])
    source = pillars.starts[kept][owner] + np.arange(len(owner)) - starts[owner]
    overflow = len(pillars.cells) - len(kept) + int((pillars.counts[kept] > most).sum())
    return Pillars(pillars.points[source], pillars.cells[kept], starts, counts[kept]), overflow


def _pillar_tensors(pillars: Pillars, settings: OfficialSettings, pad_to_capacity: bool) -> Tensors:
    """Point features and the indices between points and pillars, as `bev_backbones.DynamicPillarVfe` takes them."""
    multiple = settings.group if isinstance(settings, FlatFormerSettings) else 1
    rows = settings.max_pillars if pad_to_capacity else max(1, -(-len(pillars.cells) // multiple)) * multiple
    points = settings.max_points if pad_to_capacity else max(1, len(pillars.points))
    owner = np.repeat(np.arange(len(pillars.cells)), pillars.counts)
    last = np.arange(points)
    last[: len(owner)] = (pillars.starts + pillars.counts - 1)[owner]
    return {
        "point_features": _padded(_point_features(pillars, owner, settings), points),
        "point_last": last,
        "point_pillar": _padded(owner, points),
        "pillar_first": _padded(pillars.starts, rows),
        "bev_rows": rows_of_cells(pillars.cells, np.arange(len(pillars.cells)), settings.grid, empty=rows),
    }


def _point_features(pillars: Pillars, owner: Ints, settings: OfficialSettings) -> Floats:
    """x y z, intensity, 0, offset from the pillar's mean point, offset from the pillar's centre -> (P, 11)."""
    grid, xyz = settings.grid, pillars.points[:, :3]
    mean = np.stack([pillars.mean(axis) for axis in range(3)], axis=1)
    middle = np.full((len(pillars.cells), 1), (grid.z_low + grid.z_high) / 2)
    centre = np.concatenate([grid.centres(pillars.cells), middle], axis=1)
    intensity = pillars.points[:, 3:4]
    intensity = np.tanh(intensity) if settings.intensity == "tanh" else intensity * 255
    features = [xyz, intensity, np.zeros_like(intensity), xyz - mean[owner], xyz - centre[owner]]
    return np.concatenate(features, axis=1).astype(np.float32)


def _set_tensors(cells: Ints, settings: DsvtSettings, number: int, rows: int, pad_to_capacity: bool) -> Tensors:
    """One windowing's rotated sets. Padding sets attend to voxel 0 and nobody reads them."""
    windows = settings.windows[number]
    sets = rotated_sets(cells, windows, settings.set_size)
    count = settings.max_sets(windows) if pad_to_capacity else max(1, sets.members.shape[1])
    return {
        f"members_{number}": _padded(sets.members, count, axis=1),
        f"duplicates_{number}": _padded(sets.duplicates, count, axis=1),
        f"slots_{number}": _padded(sets.slots, rows, axis=1),
        f"positions_{number}": _padded(sets.positions, rows),
    }


def _group_tensors(cells: Ints, settings: FlatFormerSettings, rows: int) -> Tensors:
    """Flattened windows. As in the reference, the last group is filled up with the tail of the group before it."""
    groups = flatten_windows(cells, settings.window, rows)
    tokens, size = len(cells), settings.group
    last_group = tokens // size * size
    missing = min(-tokens % size, last_group)
    borrowed = np.arange(last_group - missing, last_group)
    for sorted_values in (groups.orders, groups.positions):
        sorted_values[:, tokens : tokens + missing] = sorted_values[:, borrowed]
    token_bias = np.where(np.arange(rows) < tokens, 0, MASKED).astype(np.float32)
    return {
        "orders": groups.orders,
        "inverse": groups.inverse,
        "positions": groups.positions,
        "token_bias": token_bias,
    }


def _padded(values: npt.NDArray[np.generic], length: int, axis: int = 0) -> npt.NDArray[np.generic]:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, length - values.shape[axis])
    return np.pad(values, widths)
