# SPDX-License-Identifier: Apache-2.0
"""The map of all views against sums over points, and its files against other readers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reconstruction_support import OWN, TrueNetwork, walk

from perception_models.geometry.cloud_file import write_cloud
from perception_models.reconstruction import CloudMap, Reconstructor, View
from perception_models.registration.cloud_files import read_cloud


@pytest.fixture(scope="module")
def views() -> list[View]:
    network = TrueNetwork()
    reconstructor = Reconstructor(network, OWN)
    return [reconstructor.update(one.rgb, one.camera_matrix) for one in network.frames(walk(6))]


def test_each_voxel_is_the_confidence_weighted_mean_of_what_fell_into_it(views) -> None:
    rng = np.random.default_rng(0)
    noisy = [replace(v, confidence=rng.uniform(1, 4, v.confidence.shape).astype(np.float32)) for v in views]
    held = CloudMap(voxel=0.2, least_confidence=2.0)
    added = [held.add(view) for view in noisy]

    points, colors, weights = (
        np.concatenate([getattr(v, name)[v.confidence >= 2] for v in noisy]) for name in ("points", "rgb", "confidence")
    )
    cells: dict[tuple, list[int]] = {}
    for row, cell in enumerate(map(tuple, np.floor(points / np.float32(0.2)).astype(int))):
        cells.setdefault(cell, []).append(row)
    expected = {
        cell: np.average(np.column_stack([points[rows], colors[rows]]), axis=0, weights=weights[rows])
        for cell, rows in cells.items()
        if weights[rows].sum() < 1000
    }
    assert len(held) == len(cells) == sum(added) and not held.full
    found = {
        tuple(np.floor(p / np.float32(0.2)).astype(int)): (p, c) for p, c in zip(held.points, held.colors, strict=True)
    }
    compared = [(found[cell], mean) for cell, mean in expected.items() if cell in found]
    assert len(compared) > 0.9 * len(expected)  # a mean at a border may fall to the next voxel by rounding
    for (point, color), mean in compared:
        np.testing.assert_allclose(point, mean[:3], atol=1e-3)
        np.testing.assert_allclose(color, mean[3:], atol=0.6)


def test_a_full_map_keeps_what_it_holds_says_so_and_grows_no_more(views) -> None:
    held = CloudMap(voxel=0.05, capacity=3000, least_confidence=1.0)
    first = held.add(views[0])
    assert first == 3000 == len(held) and held.full
    kept = {tuple(p) for p in np.floor(held.points / 0.05).astype(int)}
    assert held.add(views[5]) == 0 and len(held) == 3000
    assert len(kept & {tuple(p) for p in np.floor(held.points / 0.05).astype(int)}) > 2900
    held.clear()
    assert len(held) == 0 and not held.full and held.add(views[0]) == 3000


def test_doubtful_far_and_invalid_points_stay_out(views) -> None:
    view = views[0]
    doubtful = replace(view, confidence=np.full_like(view.confidence, 1.2))
    far = replace(view, points=view.points * np.float32(1e6))
    assert CloudMap(least_confidence=1.5).add(doubtful) == 0
    assert CloudMap(reach=0.5).add(view) == 0
    assert CloudMap(reach=np.inf).add(far) == 0
    assert CloudMap().add(replace(view, valid=False)) == 0


def test_another_world_begins_the_map_anew(views) -> None:
    held = CloudMap(voxel=0.1)
    count = held.add(views[0])
    held.add(views[1])
    assert held.add(replace(views[0], world=1)) == count == len(held)


@pytest.mark.parametrize("ending", ["ply", "pcd"])
def test_files_hold_the_points_and_open3d_like_readers_find_their_colours(views, tmp_path, ending) -> None:
    held = CloudMap(voxel=0.1)
    held.add(views[0])
    path = tmp_path / "maps" / f"room.{ending}"
    held.save(path)

    np.testing.assert_allclose(read_cloud(path).points, held.points)
    head, body = path.read_bytes().split(b"end_header\n" if ending == "ply" else b"DATA binary\n", 1)
    if ending == "ply":
        rows = np.frombuffer(body, [("p", "<f4", 3), ("c", "u1", 3)])
        np.testing.assert_array_equal(rows["c"], held.colors)
        assert f"element vertex {len(held)}".encode() in head
    else:
        packed = np.frombuffer(body, "<u4").reshape(-1, 4)[:, 3]
        np.testing.assert_array_equal(np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], 1), held.colors)
    assert not list(path.parent.glob("*.part"))


def test_only_known_endings_are_written(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"\.ply or \.pcd"):
        CloudMap().save(tmp_path / "map.obj")


def test_columns_beside_colour_come_back(tmp_path) -> None:
    points, labels = np.random.default_rng(0).random((9, 3), np.float32), np.arange(9, dtype=np.int32)
    write_cloud(tmp_path / "a.ply", points, np.zeros((9, 3), np.uint8), {"label": labels})
    body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)[1]
    np.testing.assert_array_equal(np.frombuffer(body, [("p", "<f4", 3), ("c", "u1", 3), ("l", "<i4")])["l"], labels)
