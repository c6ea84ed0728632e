# SPDX-License-Identifier: Apache-2.0
"""The benchmark of relocalization on a small simulated room: every method's row, and what damaged images get."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from perception_models.evaluation.relocalization import split
from perception_models.geometry.cameras import RgbdFrame
from perception_models.relocalization import Relocalizer, SceneMap
from perception_models.relocalization.features import load_extractor
from perception_models.simulation.rgbd_camera import KINECT
from perception_models.simulation.room_drive import simulate_room
from perception_nodes.commands.benchmark_relocalization import METHODS, measure, refined
from perception_nodes.judges import relocalization_methods
from perception_nodes.judges.relocalization_methods import Scene, Shot
from perception_nodes.judges.relocalization_strangers import count_damaged, count_strangers, images_under

FRAMES = 15


@pytest.fixture(scope="module")
def frames() -> list[RgbdFrame]:
    return [view.frame for view in simulate_room(1, FRAMES, KINECT.scaled(0.75), rate=3.0)]


@pytest.fixture(scope="module")
def scene(frames: list[RgbdFrame]) -> Scene:
    extractor = load_extractor("rootsift")
    shots = [Shot.of(frame, extractor) for frame in frames]
    return Scene("rootsift", shots, lambda numbers: [frames[number] for number in numbers], minutes=0.02)


@pytest.fixture(scope="module")
def relocalizer(scene: Scene) -> Relocalizer:
    return Relocalizer(SceneMap.from_views(scene.views(split("interleaved", FRAMES)), "rootsift", check=False))


def test_the_command_offers_the_methods_that_there_are() -> None:
    assert tuple(relocalization_methods.METHODS) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_measured_against_the_truth(scene: Scene, method: str) -> None:
    if "network" in method:
        pytest.importorskip("torch", reason="torch is not installed")
    chosen = split("interleaved", FRAMES)
    truth = [scene.shots[number].view.pose for number in chosen.queries]
    row = measure(scene, chosen, method, {"given": truth})["given"]

    assert 0 < row["map_mb"] < 5 and row["p95_ms"] >= row["p50_ms"] > 0
    if method.startswith("landmarks"):
        assert row["median_cm"] < 5 and row["wrong_valid"] == 0


def test_fewer_landmarks_make_a_smaller_map(scene: Scene) -> None:
    chosen = split("interleaved", FRAMES)
    sizes = {m: relocalization_methods.METHODS[m](scene, chosen).megabytes for m in METHODS[2:6]}

    assert sizes["landmarks, seen once"] > sizes["landmarks"] and sizes["landmarks + lines"] > sizes["landmarks"]


def test_a_refined_reference_stays_where_the_truth_is_exact(scene: Scene) -> None:
    chosen = split("interleaved", FRAMES)
    moved = np.stack(refined(scene, chosen)) - np.stack([scene.shots[n].view.pose for n in chosen.queries])

    assert np.median(np.abs(moved[:, :3, 3])) < 0.01


def test_damaged_images_are_counted(relocalizer: Relocalizer, frames: list[RgbdFrame]) -> None:
    counts = count_damaged(relocalizer, frames[:2])

    assert counts["black"] == counts["blank"] == (2, 0, 0)
    assert counts["half covered"].images == 2 and counts["half covered"].wrong == 0


def test_images_of_other_places_are_counted(relocalizer: Relocalizer, frames: list[RgbdFrame], tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    for name in ("other.png", "depth/other.png"):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 256, (360, 480, 3), np.uint8))
    own = [frame.rgb for frame in frames]

    assert count_strangers(relocalizer, images_under([tmp_path]), frames[0].camera_matrix) == (1, 0, 0)
    assert count_strangers(relocalizer, own, frames[0].camera_matrix).valid >= 5  # it can tell


def test_a_folder_without_images_of_other_places_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no colour image under"):
        list(images_under([tmp_path]))
