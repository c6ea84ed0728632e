# SPDX-License-Identifier: Apache-2.0
"""`perception map`, `localize` and `convert 7scenes`: a recorded place becomes a map in which its images are found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from wall_support import HEIGHT, MATRIX, POSES, WIDTH, texture, view

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame
from perception_models.relocalization import Relocalizer, SceneMap
from perception_nodes import cli


@pytest.fixture(scope="module")
def frames() -> list[RgbdFrame]:
    wall = texture()
    return [view(pose, wall) for pose in POSES]


@pytest.fixture(scope="module")
def folder(frames: list[RgbdFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The views as a folder of posed images."""
    root = tmp_path_factory.mktemp("wall")
    for name in ("images", "depth"):
        (root / name).mkdir()
    np.savetxt(root / "K.txt", MATRIX)
    np.savetxt(root / "poses.txt", np.reshape(POSES, (-1, 16)))
    for index, frame in enumerate(frames):
        cv2.imwrite(str(root / f"images/{index:03d}.png"), frame.rgb[..., ::-1])
        cv2.imwrite(str(root / f"depth/{index:03d}.png"), np.full((HEIGHT, WIDTH), 2000, np.uint16))
    return root


@pytest.fixture(scope="module")
def map_file(folder: Path) -> Path:
    out = folder / "wall.map"
    assert cli.main(["map", "build", str(folder), str(out), "--features", "rootsift"]) == 0
    return out


def printed_pose(text: str) -> np.ndarray:
    rows = text[: text.index("]]")].replace("[", " ").replace("]", " ")
    return np.array(rows.split(), float).reshape(4, 4)


def test_an_image_of_the_folder_is_found_where_it_was_taken(
    map_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["localize", str(map_file), str(folder / "images/006.png")]) == 0
    text = capsys.readouterr().out
    np.testing.assert_allclose(printed_pose(text), POSES[6], atol=0.01)
    assert "inliers; standard deviation" in text


def test_a_new_image_is_found_with_the_camera_that_is_given(
    map_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = se3.make(np.eye(3), [0.11, 0.05, 0])
    path = tmp_path / "new.png"
    cv2.imwrite(str(path), view(truth, texture()).rgb[..., ::-1])
    assert cli.main(["localize", str(map_file), str(path), "--camera", "300", "300", "159.5", "119.5"]) == 0
    np.testing.assert_allclose(printed_pose(capsys.readouterr().out), truth, atol=0.01)


def test_the_map_says_what_it_holds_and_how_good_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "again.map"
    assert cli.main(["map", "build", str(folder), str(out), "--features", "rootsift"]) == 0
    text = capsys.readouterr().out
    assert f"{out}: " in text and "landmarks" in text and "100% of 2 left-out views found" in text


def test_a_bag_gives_the_same_map_as_the_folder(
    frames: list[RgbdFrame], folder: Path, map_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from perception_nodes.bags import BagWriter
    from perception_nodes.rgbd_bag import write_rgbd, write_rgbd_rig

    bag, out = tmp_path / "wall.mcap", tmp_path / "wall.map"
    with BagWriter(bag) as writer:
        write_rgbd_rig(writer, 10**9)
        for index, frame in enumerate(frames):
            write_rgbd(writer, 10**9 * (1 + index), frame, frame.pose)
    assert cli.main(["map", "build", str(bag), str(out), "--features", "rootsift"]) == 0
    np.testing.assert_allclose(
        SceneMap.load(out).landmarks.positions, SceneMap.load(map_file).landmarks.positions, atol=1e-3
    )


def test_every_second_image_makes_a_smaller_map(folder: Path, map_file: Path, tmp_path: Path) -> None:

    out = tmp_path / "half.map"
    assert cli.main(["map", "build", str(folder), str(out), "--features", "rootsift", "--every", "2"]) == 0
    assert len(SceneMap.load(out).landmarks.poses) == len(SceneMap.load(map_file).landmarks.poses) / 2


def test_a_map_with_a_network_is_used_with_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    out = tmp_path / "network.map"
    assert cli.main(["map", "build", str(folder), str(out), "--features", "rootsift", "--network", "0.05"]) == 0
    text = capsys.readouterr().out
    assert SceneMap.load(out).network and "landmarks" in text
    assert cli.main(["localize", str(out), str(folder / "images/006.png")]) == 0
    np.testing.assert_allclose(printed_pose(capsys.readouterr().out), POSES[6], atol=0.01)
    Relocalizer(SceneMap.load(out), "network+landmarks").close()  # its network can be run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["map", "build", "nowhere", "out.map"], "nowhere has neither images/ with K.txt nor frame-"),
        (["map", "build", "FOLDER", "out.map", "--features", "magic"], "features 'magic' are unknown"),
        (["map", "build", "FOLDER", "out.map", "--every", "0"], "--every 0: take every 1st"),
        (["map", "build", "FOLDER/K.txt", "out.map"], "is not a bag"),
        (["localize", "nowhere.map", "FOLDER/images/000.png"], "no map can be read at nowhere.map"),
        (["localize", "MAP", "FOLDER/images/none.png"], "none.png is missing"),
        (["localize", "MAP", "FOLDER/wall.map", "--camera", "1", "1", "0", "0"], "no image that OpenCV reads"),
        (["localize", "MAP", "FOLDER/images/000.png", "--method", "network"], "the map has no network; train one"),
        (["localize", "MAP", "FOLDER/images/000.png", "--method", "magic"], "method 'magic' is unknown"),
        (["localize", "MAP", "GREY"], "Give --camera FX FY CX CY"),
        (["localize", "MAP", "GREY", "--camera", "300", "300", "160", "120"], "was not found in"),
        (["convert", "7scenes", "FOLDER", "out.mcap"], "holds no frame-NNNNNN.color.jpg"),
    ],
)
def test_failures_end_with_1_and_a_reason(
    words: list[str],
    reason: str,
    folder: Path,
    map_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    grey = tmp_path / "grey/grey.png"
    grey.parent.mkdir()
    cv2.imwrite(str(grey), np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    names = {"FOLDER": str(folder), "MAP": str(map_file), "GREY": str(grey)}
    given = [names.get(word, word.replace("FOLDER", str(folder))) for word in words]
    assert cli.main(given) == 1
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_7scenes_becomes_a_bag_of_colour_views(tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from perception_nodes.rgbd_bag import RgbdBag
    from perception_nodes.seven_scenes import SevenScenes

    for number in (0, 30):
        stem = tmp_path / f"frame-{number:06d}"
        cv2.imwrite(f"{stem}.color.jpg", np.full((480, 640, 3), number, np.uint8))
        cv2.imwrite(f"{stem}.depth.png", np.full((480, 640), 1000 + number, np.uint16))
        np.savetxt(f"{stem}.pose.txt", se3.make(np.eye(3), [number, 0, 0]))
    out = tmp_path / "scene.mcap"
    assert cli.main(["convert", "7scenes", str(tmp_path), str(out)]) == 0
    with RgbdBag(out) as bag:
        found = list(bag)
    assert found[1][0] - found[0][0] == 10**9  # 30 frames at 30 a second
    for (_, frame), expected in zip(found, SevenScenes(tmp_path), strict=True):
        np.testing.assert_array_equal(frame.rgb, expected.rgb)
        np.testing.assert_allclose(frame.depth, expected.depth, atol=1e-6)
        np.testing.assert_allclose(frame.pose, expected.pose, atol=1e-9)
