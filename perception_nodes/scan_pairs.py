# SPDX-License-Identifier: Apache-2.0
"""Pairs of recorded LiDAR scans: of the same street, with their true pose, and of places that have nothing in common.

The folder is laid out as PERCEPTION_DATA: kitti/2011_09_26/2011_09_26_drive_0005_sync, lidar_pairs/{small_gicp,
kitti_07}, nuscenes, 3dmatch_pairs, 7scenes_redkitchen. What is not there is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import small_gicp
from numpy.typing import NDArray

from perception_models.evaluation.scan_pairs import BANDS
from perception_models.geometry import se3
from perception_models.registration.cloud_files import read_cloud
from perception_nodes.fragment_pairs import read_fragments
from perception_nodes.kitti import KittiDrive
from perception_nodes.scans import Sweep

Floats = NDArray[np.float32]

DRIVE = Path("kitti/2011_09_26/2011_09_26_drive_0005_sync")
LONGEST = 10.0  # s from scan to scan
FARTHEST = 10.0  # m
REFINED = 1.0  # m; between neighbours when the true pose is refined


@dataclass(frozen=True)
class ScanPair:
    """Two scans (N, 3), (M, 3) float32 m, each in its sensor's frame; truth (4, 4): source -> target."""

    name: str
    source: Floats
    target: Floats
    truth: se3.Matrix

    @property
    def distance(self) -> float:
        """Metres between the sensors."""
        return float(np.linalg.norm(self.truth[:3, 3]))


def drive_pairs(data: Path, count: int, seed: int = 0) -> Iterator[ScanPair]:
    """`count` pairs of drive 0005, as many from each band of distances, 10 s and 10 m apart at most."""
    rng = np.random.default_rng(seed)
    sweeps = list(KittiDrive(data / DRIVE).sweeps())
    for first, second in spread_over_bands(sweeps, count, rng):
        source, target = sweeps[first], sweeps[second]
        assert source.pose is not None
        assert target.pose is not None
        guess = se3.inverse(target.pose) @ source.pose
        yield _turned(_refined(f"{first} in {second}", source.points, target.points, guess), rng)


def spread_over_bands(sweeps: Sequence[Sweep], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Numbers of scans, a random choice of equally many pairs from each band of distances up to FARTHEST."""
    places = np.array([sweep.pose[:3, 3] for sweep in sweeps if sweep.pose is not None])
    stamps = np.array([sweep.stamp * 1e-9 for sweep in sweeps])
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    candidates = (np.abs(stamps[:, None] - stamps) <= LONGEST) & ~np.eye(len(sweeps), dtype=bool)
    chosen: list[tuple[int, int]] = []
    bands = [band for band in zip(BANDS[:-1], BANDS[1:], strict=True) if band[1] <= FARTHEST]
    for low, high in bands:
        found = np.argwhere(candidates & (apart >= low) & (apart < high))
        chosen += [(int(a), int(b)) for a, b in rng.permutation(found)[: count // len(bands)]]
    return chosen


def published_pairs(data: Path, seed: int = 0) -> Iterator[ScanPair]:
    """The pair of small_gicp, and consecutive scans of KITTI 07 that are 3 to 12 m apart."""
    rng = np.random.default_rng(seed)
    folder = data / "lidar_pairs" / "small_gicp"
    source, target = (read_cloud(folder / f"{name}.ply").points for name in ("source", "target"))
    yield _turned(_refined("small_gicp", source, target, np.loadtxt(folder / "T_target_source.txt")), rng)
    scans = read_kitti_07(data)
    for number, ((source, pose), (target, other)) in enumerate(zip(scans[1:], scans[:-1], strict=True)):
        guess = se3.inverse(other) @ pose
        yield _turned(_refined(f"KITTI 07, {number + 1} in {number}", source, target, guess), rng)


def read_kitti_07(data: Path) -> list[tuple[Floats, se3.Matrix]]:
    """Five scans (N, 3) of float32 x y z, and their poses from lines `vK x y z qx qy qz qw`."""
    folder = data / "lidar_pairs" / "kitti_07"
    scans = []
    for index, line in enumerate((folder / "graph.txt").read_text().splitlines()[:5]):
        values = [float(word) for word in line.split()[1:]]
        points = np.fromfile(folder / f"{index:06d}" / "points.bin", "<f4").reshape(-1, 3)
        scans.append((points, se3.from_quaternion(values[3:], values[:3])))
    return scans


def strangers(data: Path, count: int = 100) -> Iterator[tuple[str, Floats, Floats, str]]:
    """Pairs of clouds of different data sets, of which none overlap: name, source, target, scale. Six of ten are rooms:
    3DMatch's fragments against those of a 7-Scenes kitchen; the others streets: drive 0005 against other scans."""
    rooms = islice(product(_rooms(data), _kitchen(data)), round(0.6 * count))
    streets = list(islice(product(_streets(data), _drive(data)), count - round(0.6 * count)))
    for scale, pairs in (("indoor", rooms), ("lidar", streets)):
        for (name, source), (other, target) in pairs:
            yield f"{name} in {other}", source, target, scale


def _rooms(data: Path) -> list[tuple[str, Floats]]:
    """Of SUN3D only: the pair of GeoTransformer's demonstration shows the very kitchen of 7-Scenes."""
    files = sorted((data / "3dmatch_pairs").glob("sun3d-*/*.npy"))
    return [(path.stem, read_cloud(path).points) for path in files]


def _kitchen(data: Path) -> list[tuple[str, Floats]]:
    clouds, _ = read_fragments(data / "7scenes_redkitchen")
    return [(f"kitchen {number}", cloud) for number, cloud in enumerate(clouds)]


def _streets(data: Path) -> list[tuple[str, Floats]]:
    found = [(f"KITTI 07, {number}", points) for number, (points, _) in enumerate(read_kitti_07(data)[::2])]
    found.append(("small_gicp", read_cloud(data / "lidar_pairs" / "small_gicp" / "target.ply").points))
    for path in sorted((data / "nuscenes").glob("*.pcd.bin")):
        found.append(("nuScenes", np.fromfile(path, "<f4").reshape(-1, 5)[:, :3]))
    return found


def _drive(data: Path) -> list[tuple[str, Floats]]:
    scans = list(islice(KittiDrive(data / DRIVE).sweeps(), 0, None, 15))
    return [(f"drive 0005, {15 * number}", np.ascontiguousarray(scan.points)) for number, scan in enumerate(scans)]


def _refined(name: str, source: Floats, target: Floats, guess: se3.Matrix) -> ScanPair:
    """The pair at the pose to which small_gicp comes from the recorded one."""
    found = small_gicp.align(
        target.astype(np.float64), source.astype(np.float64), guess, downsampling_resolution=0.25,
        max_correspondence_distance=REFINED, num_threads=2,
    ).T_target_source  # fmt: skip
    return ScanPair(name, source, target, se3.make(se3.nearest_rotation(found[:3, :3]), found[:3, 3]))


def _turned(pair: ScanPair, rng: np.random.Generator) -> ScanPair:
    """The source as a sensor sees it that is turned by any yaw."""
    turn = se3.from_yaw_pitch_roll(rng.uniform(-np.pi, np.pi), 0, 0)
    source = np.asarray(se3.apply(turn, pair.source), np.float32)
    return ScanPair(pair.name, source, pair.target, pair.truth @ se3.inverse(turn))
