# SPDX-License-Identifier: Apache-2.0
"""KITTI's conventions, on a drive written by the test and on the real one where it is at hand."""

import dataclasses
import lzma
import os
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from perception_models.geometry.boxes import points_in_boxes
from perception_models.geometry.se3 import rotation_angle
from perception_nodes.kitti import KittiDrive, read_points
from perception_nodes.scans import Scan

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("PERCEPTION_DATA", ROOT / "../shared/data"))
DRIVE = DATA / "kitti/2011_09_26/2011_09_26_drive_0005_sync"
needs_data = pytest.mark.skipif(not DRIVE.is_dir(), reason=f"no KITTI drive under PERCEPTION_DATA ({DATA})")

CALIBRATION = {
    # The LiDAR looks along x; the camera stands in its place and looks along z, x to the right, y down.
    "calib_velo_to_cam.txt": "calib_time: today\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 0\n",
    "calib_imu_to_velo.txt": "calib_time: today\nR: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n",
    "calib_cam_to_cam.txt": "calib_time: today\ncorner_dist: 0.1\nS_rect_02: 1000 400\nR_rect_00: 1 0 0 0 1 0 0 0 1\n"
    "P_rect_02: 700 0 500 0 0 700 200 0 0 0 1 0\n",
}
LABELS = """\
0 -1 DontCare -1 -1 -10 100 150 200 250 -1000 -1000 -1000 -10 -1 -1 -1
0 3 Van 0 0 0 0 0 0 0 2.0 1.8 4.4 -3.0 1.7 12.0 0.0
0 4 Person_sitting 0 0 0 0 0 0 0 1.2 0.6 0.8 1.0 1.6 9.0 -1.5707963
0 5 Tram 0 0 0 0 0 0 0 3 3 20 9 2 30 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A drive of two scans, driven 1 m east in 0.1 s."""
    drive = tmp_path / "2011_09_26/2011_09_26_drive_0001_sync"
    for name in ("velodyne_points/data", "oxts/data", "tracking"):
        (drive / name).mkdir(parents=True)
    for name, text in CALIBRATION.items():
        (drive.parent / name).write_text(text)
    for index in range(2):
        np.full((3, 4), index, np.float32).tofile(drive / f"velodyne_points/data/{index:010d}.bin")
        longitude = 8.4 + index * np.degrees(1 / (6378137 * np.cos(np.radians(49))))
        (drive / f"oxts/data/{index:010d}.txt").write_text(f"49.0 {longitude:.12f} 112 0 0 0 " + "0 " * 24)
    (drive / "velodyne_points/timestamps.txt").write_text("2011-09-26 13:04:32.340000001\n2011-09-26 13:04:32.44\n")
    (drive / "oxts/timestamps.txt").write_text("2011-09-26 13:04:32.34\n2011-09-26 13:04:32.44\n")
    (drive / "tracking/label_02_0001.txt").write_text(LABELS)
    return drive


def test_labels_become_boxes_in_the_lidars_frame(folder: Path) -> None:
    first, second = KittiDrive(folder)
    assert first.objects.names == ["vehicle", "pedestrian", "ignore"] and first.objects.ids == ["3", "4", "5"]
    assert first.objects.kinds == ("Van", "Person_sitting", "Tram")
    # ry = 0 faces the camera's x, that is the LiDAR's -y; bottoms are lifted by half the height.
    np.testing.assert_allclose(first.objects.boxes[0], [12, 3, -0.7, 4.4, 1.8, 2.0, -np.pi / 2], atol=1e-6)
    np.testing.assert_allclose(first.objects.boxes[1], [9, -1, -1.0, 0.8, 0.6, 1.2, 0], atol=1e-6)
    np.testing.assert_allclose(first.ignored, [[100, 150, 200, 250]])
    assert second.objects.names == [] and len(second.ignored) == 0


def test_poses_and_stamps_are_those_of_the_scans(folder: Path) -> None:
    first, second = KittiDrive(folder)
    assert first.stamp == 1317042272_340000001 and second.stamp - first.stamp == 99_999_999
    np.testing.assert_allclose(first.pose[:3, 3], 0, atol=1e-4)
    np.testing.assert_allclose(second.pose[:3, 3], [1, 0, 0], atol=1e-4)


def test_without_labels_the_truth_is_absent_not_empty(folder: Path) -> None:
    (folder / "tracking/label_02_0001.txt").unlink()
    drive = KittiDrive(folder)
    assert not drive.labelled and [scan.objects for scan in drive] == [None, None]


def test_scans_are_read_from_klz_and_damage_is_named(tmp_path: Path) -> None:
    points = np.array([[1.234, -20, 3.5, 0.25], [-100.001, 7, 0, 0.99], [0, 0.002, 9, 0]], np.float32)
    steps = np.diff(np.rint(points[:, :3] * 1000.0).astype("<i4"), axis=0, prepend=np.zeros((1, 3), "<i4"))
    planes = b"".join(steps.T[axis].tobytes()[byte::4] for axis in range(3) for byte in range(4))
    reflectance = np.rint(points[:, 3] * 100).astype(np.uint8).tobytes()
    path = tmp_path / "0.klz"
    path.write_bytes(b"KLZ1" + struct.pack("<Idd", 3, 1000, 100) + lzma.compress(planes + reflectance))
    np.testing.assert_allclose(read_points(path), points, atol=1e-6)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"0\.klz is not a KITTI scan"):
        read_points(path)


def test_a_folder_that_is_no_drive_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="_sync folder"):
        KittiDrive(tmp_path)


@pytest.fixture(scope="module")
def real_scans() -> list[Scan]:
    """All scans of the real drive; only every 25th keeps its points."""
    nothing = np.zeros((0, 4), np.float32)
    return [
        scan if index % 25 == 0 else dataclasses.replace(scan, points=nothing)
        for index, scan in enumerate(KittiDrive(DRIVE))
    ]


@needs_data
def test_real_boxes_enclose_the_points_of_their_objects(real_scans: list[Scan]) -> None:
    inside, around = 0, 0
    for scan in real_scans[::25]:
        boxes = scan.objects.boxes[[name == "vehicle" for name in scan.objects.names]].copy()
        # From 0.3 m over the bottom, so that the ground plays no part, and with 0.5 m of air around.
        boxes[:, 2], boxes[:, 5] = boxes[:, 2] + 0.15, boxes[:, 5] - 0.3
        wide = boxes + np.array([0, 0, 0, 1, 1, 0, 0], np.float32)
        inside += points_in_boxes(scan.points, boxes).sum()
        around += points_in_boxes(scan.points, wide).sum()
    assert inside > 2000 and inside / around > 0.93


@needs_data
def test_real_poses_agree_with_the_length_of_the_drive(real_scans: list[Scan]) -> None:
    poses = [scan.pose for scan in real_scans]
    assert len(poses) == 154
    steps = [np.linalg.inv(a) @ b for a, b in pairwise(poses)]
    assert sum(np.linalg.norm(step[:3, 3]) for step in steps) == pytest.approx(69, abs=2)
    assert max(rotation_angle(step) for step in steps) < np.radians(5)
    assert np.mean([step[0, 3] for step in steps]) > 0.3
