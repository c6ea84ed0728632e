# SPDX-License-Identifier: Apache-2.0
"""7-Scenes and posed folders: depth lies where colour sees it, and every pose is that of its camera."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.geometry.cameras import frame_points, project
from perception_nodes.posed_images import PosedImages, open_images
from perception_nodes.seven_scenes import (
    COLOR_MATRIX,
    DEPTH_MATRIX,
    DEPTH_TO_COLOR,
    SevenScenes,
    read_depth,
    read_rgb,
    register_depth,
)

POSE = se3.from_yaw_pitch_roll(0.3, -0.2, 0.1, [1, 2, 3])
SHEAR = np.array([[1.0, 0.012, 0], [0.012, 1, 0], [0, 0, 1]])


def write_frame(folder: Path, number: int, depth: np.ndarray, pose: np.ndarray = POSE) -> None:
    stem = folder / f"frame-{number:06d}"
    color = np.zeros((480, 640, 3), np.uint8)
    color[..., 0] = 200  # blue, as OpenCV writes it
    cv2.imwrite(f"{stem}.color.jpg", color)
    cv2.imwrite(f"{stem}.depth.png", depth)
    np.savetxt(f"{stem}.pose.txt", pose)


@pytest.fixture
def scene(tmp_path: Path) -> SevenScenes:
    """Two frames of a wall at 2 m with a box at 1 m in front of it, and a third without its depth."""
    depth = np.full((480, 640), 2000, np.uint16)
    depth[200:280, 280:360] = 1000
    depth[:, :20], depth[:20] = 0, 65535
    skewed = POSE.copy()
    skewed[:3, :3] = SHEAR @ POSE[:3, :3]
    for number in (0, 3):
        write_frame(tmp_path, number, depth, skewed)
    np.savetxt(tmp_path / "frame-000006.pose.txt", POSE)
    return SevenScenes(tmp_path)


def test_only_whole_frames_are_given_in_order(scene: SevenScenes) -> None:
    assert scene.numbers == [0, 3] and len(scene) == len(list(scene)) == 2


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no frame-NNNNNN.color.jpg"):
        SevenScenes(tmp_path)


def test_colour_is_rgb(scene: SevenScenes) -> None:
    assert np.abs(scene.frame(0).rgb.reshape(-1, 3).mean(axis=0) - [0, 0, 200]).max() < 3


def test_missing_depth_is_zero(scene: SevenScenes) -> None:
    depth = scene.depth_frame(0).depth
    assert depth is not None
    assert (depth[:20] == 0).all() and (depth[:, :20] == 0).all() and set(np.unique(depth)) == {0.0, 1.0, 2.0}


def test_rotations_are_made_orthonormal(scene: SevenScenes) -> None:
    for pose in (scene.frame(0).pose, scene.depth_frame(0).pose):
        assert pose is not None
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert se3.rotation_angle(se3.inverse(POSE) @ pose) < 0.02


def test_both_cameras_see_the_same_surfaces_of_the_world(scene: SevenScenes) -> None:
    color, depth = (se3.apply(se3.inverse(POSE), frame_points(f)) for f in (scene.frame(0), scene.depth_frame(0)))
    assert set(np.round(color[:, 2], 1)) == set(np.round(depth[:, 2], 1)) == {1.0, 2.0}
    boxes = [points[np.abs(points[:, 2] - 1) < 0.05] for points in (color, depth)]
    for corner in (np.min, np.max):
        np.testing.assert_allclose(corner(boxes[0], axis=0), corner(boxes[1], axis=0), atol=0.015)


def test_registered_depth_agrees_with_each_point_s_own_projection(scene: SevenScenes) -> None:
    raw, registered = scene.depth_frame(0).depth, scene.frame(0).depth
    assert raw is not None and registered is not None
    for row, column in ((100, 100), (240, 320), (400, 600), (30, 500)):
        z = float(raw[row, column])
        point = np.array([(column - 320) / 585 * z, (row - 240) / 585 * z, z]) + DEPTH_TO_COLOR[:3, 3]
        x, y = np.rint(project(point, COLOR_MATRIX)).astype(int)
        assert registered[y, x] == pytest.approx(z)


def test_a_wall_keeps_no_holes_when_it_is_registered() -> None:
    registered = register_depth(np.full((480, 640), 2, np.float32), DEPTH_MATRIX, COLOR_MATRIX, DEPTH_TO_COLOR)
    rows, columns = np.nonzero(registered)
    inside = registered[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (inside == 2).all() and inside.size > 0.75 * registered.size


def test_without_registration_only_the_depth_is_missing(scene: SevenScenes) -> None:
    with_depth, without = scene.frame(1), scene.frame(1, registered=False)
    assert without.depth is None and np.array_equal(with_depth.rgb, without.rgb)
    np.testing.assert_array_equal(with_depth.pose, without.pose)


@pytest.mark.parametrize("read", [read_rgb, read_depth])
def test_a_file_that_is_no_image_is_refused_by_name(read: object, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.png is missing or is no image"):
        read(path)  # type: ignore[operator]


def write_posed(folder: Path, count: int = 3) -> Path:
    """A folder images/ + K.txt + poses.txt of `count` images, pose i at x = i; the second has depth."""
    (folder / "images").mkdir()
    (folder / "depth").mkdir()
    np.savetxt(folder / "K.txt", np.array([[50.0, 0, 19.5], [0, 50, 14.5], [0, 0, 1]]))
    poses = [se3.make(np.eye(3), [i, 0, 0]) for i in range(count)]
    np.savetxt(folder / "poses.txt", np.reshape(poses, (count, 16)))
    for i in range(count):
        cv2.imwrite(str(folder / f"images/{i:03d}.png"), np.full((30, 40, 3), i, np.uint8))
    cv2.imwrite(str(folder / "depth/001.png"), np.full((30, 40), 1500, np.uint16))
    return folder


def test_posed_images_come_with_what_is_known_of_them(tmp_path: Path) -> None:
    frames = list(open_images(write_posed(tmp_path)))
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [0, 1, 2]
    assert [frame.pose[0, 3] for frame in frames if frame.pose is not None] == [0, 1, 2]
    assert [frame.depth is None for frame in frames] == [True, False, True]
    assert frames[1].depth is not None and (frames[1].depth == 1.5).all()


def test_poses_follow_the_listing_where_images_are_missing(tmp_path: Path) -> None:
    write_posed(tmp_path)
    (tmp_path / "all_image_filenames.txt").write_text("000.png\n001.png\n002.png\n")
    (tmp_path / "images/001.png").unlink()
    assert [frame.pose[0, 3] for frame in PosedImages(tmp_path) if frame.pose is not None] == [0, 2]


def test_images_without_poses_are_given_without(tmp_path: Path) -> None:
    write_posed(tmp_path)
    (tmp_path / "poses.txt").unlink()
    assert all(frame.pose is None for frame in PosedImages(tmp_path))


def test_poses_that_do_not_fit_the_images_are_refused(tmp_path: Path) -> None:
    write_posed(tmp_path)
    (tmp_path / "images/002.png").unlink()
    with pytest.raises(ValueError, match=r"poses.txt is \(3, 16\); expected 16 numbers for each of 2 images"):
        PosedImages(tmp_path)


def test_a_folder_of_neither_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither images/ with K.txt nor frame-"):
        open_images(tmp_path)


def test_registration_puts_depth_edges_on_colour_edges_of_a_real_scene(perception_data: Path) -> None:
    """Colour changes more where registered depth jumps than where depth jumps that was left as it is."""
    scene = SevenScenes(perception_data / "7scenes_redkitchen")
    registered, naive = [], []
    for index in range(20, 320, 75):
        frame, raw = scene.frame(index), scene.depth_frame(index)
        assert frame.depth is not None and raw.depth is not None
        registered.append(contrast_at_jumps(frame.rgb, frame.depth))
        naive.append(contrast_at_jumps(frame.rgb, raw.depth))
    assert np.mean(registered) > 1.3 * np.mean(naive)


def contrast_at_jumps(rgb: np.ndarray, depth: np.ndarray) -> float:
    """Mean gradient of grey at pixels on the near side of a jump in depth of more than 10 cm."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
    near, far = cv2.erode(depth, np.ones((3, 3))), cv2.dilate(depth, np.ones((3, 3)))
    return float(gradient[(near > 0) & (far - near > 0.1) & (depth == near)].mean())


def test_real_posed_images_agree_with_each_other(perception_data: Path) -> None:
    """Points of one view, seen from another by the given poses, have the depth that the other view measured."""
    frames = list(PosedImages(perception_data / "hololens/000"))
    first, second = frames[0], frames[1]
    assert second.depth is not None and second.pose is not None
    points = se3.apply(se3.inverse(second.pose), frame_points(first))
    pixels = np.rint(project(points, second.camera_matrix))
    height, width = second.depth.shape
    inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
    x, y = pixels[inside].astype(int).T
    measured, expected = second.depth[y, x], points[inside, 2]
    assert np.median(np.abs(measured - expected)[measured > 0]) < 0.05
