# SPDX-License-Identifier: Apache-2.0
"""`perception register`: one cloud file found in another, or refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.registration.cloud_files import read_cloud
from perception_nodes import cli

POSE = se3.from_yaw_pitch_roll(1.2, 0.05, -0.1, [1.0, -0.5, 0.1])


def room(seed: int) -> np.ndarray:
    """Points (N, 3) on the floor, two walls and boxes of a room, seen from its middle."""
    rng = np.random.default_rng(seed)
    parts = [box(np.array([0, 0, -1.2]), np.array([6.0, 5.0, 0.02]), rng)]
    parts += [box(np.array([0, 2.5, 0]), np.array([6.0, 0.02, 2.4]), rng)]
    parts += [box(np.array([-3.0, 0, 0]), np.array([0.02, 5.0, 2.4]), rng)]
    for _ in range(12):
        parts.append(box(rng.uniform([-2.5, -2, -1], [2.5, 2, 0]), rng.uniform(0.3, 1.2, 3), rng))
    return np.concatenate(parts).astype(np.float32)


def box(centre: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points on the surface of a box, about 500 a square metre."""
    faces = []
    for axis in range(3):
        area = np.prod(np.delete(size, axis))
        points = rng.uniform(-0.5, 0.5, (2 * int(500 * area), 3))
        points[:, axis] = np.where(np.arange(len(points)) % 2, 0.5, -0.5)
        faces.append(points * size + centre)
    return np.concatenate(faces)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room, the same room from elsewhere, and too few of its points."""
    path = tmp_path_factory.mktemp("clouds")
    points = room(0)
    np.save(path / "target.npy", points)
    moved = se3.apply(se3.inverse(POSE), points).astype(np.float32)
    np.hstack([moved, np.zeros((len(moved), 1), np.float32)]).tofile(path / "source.bin")
    np.save(path / "few.npy", moved[:20])
    return path


def test_the_pose_is_printed_and_the_source_is_written_at_its_place(folder, capsys) -> None:
    words = ["register", str(folder / "source.bin"), str(folder / "target.npy"), "--out", str(folder / "aligned.ply")]
    status = cli.main([*words, "--scale", "indoor"])
    printed = capsys.readouterr().out

    matrix = np.array(re.findall(r"-?\d+\.\d*", printed[printed.index("[[") :]), float)[:16].reshape(4, 4)
    assert status == 0
    assert "valid: yes" in printed
    np.testing.assert_allclose(matrix, POSE, atol=0.01)
    expected = np.load(folder / "target.npy")
    np.testing.assert_allclose(read_cloud(folder / "aligned.ply").points, expected, atol=0.03)


def test_what_cannot_be_found_ends_with_1_says_why_and_writes_nothing(folder, capsys) -> None:
    out = folder / "none.ply"
    status = cli.main(["register", str(folder / "few.npy"), str(folder / "target.npy"), "--out", str(out)])

    assert status == 1
    assert re.search(r"valid: no: a cloud has \d+ points", capsys.readouterr().out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["absent.ply", "target.npy"], "absent.ply"),
        (["source.bin", "target.npy", "--out", "aligned.xyz"], "a .ply file is needed"),
        (["source.bin", "target.npy", "--variant", "no-such"], "no-such"),
    ],
)
def test_wrong_files_and_variants_end_with_1_and_the_reason(folder, capsys, monkeypatch, words, reason) -> None:
    monkeypatch.chdir(folder)

    assert cli.main(["register", *words]) == 1
    assert reason in capsys.readouterr().err
