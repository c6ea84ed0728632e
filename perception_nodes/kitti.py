# SPDX-License-Identifier: Apache-2.0
"""Reads a drive in KITTI's raw layout (Geiger et al., "Vision meets Robotics", IJRR 2013), and its tracking labels.

2011_09_26/calib_velo_to_cam.txt, calib_imu_to_velo.txt, calib_cam_to_cam.txt
2011_09_26/2011_09_26_drive_0005_sync/velodyne_points/{timestamps.txt, data/NNNNNNNNNN.bin or .klz}
                                     /oxts/{timestamps.txt, data/NNNNNNNNNN.txt}
                                     /tracking/label_02_NNNN.txt   (optional: labels of the tracking benchmark)
"""

import calendar
import lzma
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.boxes import Floats
from perception_nodes.bag_messages import Objects
from perception_nodes.scans import Camera, Scan, Sweep

CLASSES = {
    "Car": "vehicle",
    "Van": "vehicle",
    "Truck": "vehicle",
    "Pedestrian": "pedestrian",
    "Person": "pedestrian",
    "Person_sitting": "pedestrian",
    "Cyclist": "cyclist",
}  # what else is labelled (Tram, Misc) is no class of ours: `ignore`

_EARTH_RADIUS = 6378137.0
Matrix = NDArray[np.float64]


class KittiDrive:
    """One drive: `len`, iteration over its scans, its camera, and where the LiDAR stands on the vehicle."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError, naming the file, where the layout is not KITTI's."""
        self._scans = sorted(p for p in (folder / "velodyne_points/data").glob("*") if p.suffix in (".bin", ".klz"))
        if not self._scans:
            raise FileNotFoundError(f"{folder}/velodyne_points/data has no .bin or .klz scan; give the ..._sync folder")
        self._stamps = _read_stamps(folder / "velodyne_points/timestamps.txt")
        self._oxts_stamps = _read_stamps(folder / "oxts/timestamps.txt")
        self._poses = _read_oxts(sorted((folder / "oxts/data").glob("*.txt")))
        self.camera = _read_camera(folder.parent)
        imu_to_lidar = _read_rigid(folder.parent / "calib_imu_to_velo.txt")
        self.lidar_in_base = se3.inverse(imu_to_lidar)
        labels = sorted((folder / "tracking").glob("label_02_*.txt"))
        self._labels = _read_labels(labels[0], self.camera.pose) if labels else None

    def __len__(self) -> int:
        return len(self._scans)

    def __iter__(self) -> Iterator[Scan]:
        for path in self._scans:
            frame = int(path.stem)
            objects, ignored = self._labels[frame] if self._labels is not None else (None, np.zeros((0, 4)))
            stamp = self._stamps[frame]
            yield Scan(stamp, read_points(path), objects, self._pose(stamp), ignored=ignored)

    def sweeps(self) -> Iterator[Sweep]:
        """Its scans as odometry takes them, with the pose of the LiDAR; the files do not tell the points' times."""
        for scan in self:
            pose = None if scan.pose is None else scan.pose @ self.lidar_in_base
            yield Sweep(scan.stamp, scan.points[:, :3], None, pose)

    @property
    def labelled(self) -> bool:
        """Whether the drive has tracking labels."""
        return self._labels is not None

    def _pose(self, stamp: int) -> Matrix:
        """Pose of the IMU (= base_link) in the first IMU frame at a stamp, between two measurements or just beyond."""
        after = int(np.clip(np.searchsorted(self._oxts_stamps, stamp), 1, len(self._poses) - 1))
        start, end = self._oxts_stamps[after - 1], self._oxts_stamps[after]
        return se3.interpolate(self._poses[after - 1], self._poses[after], (stamp - start) / (end - start))


def read_points(path: Path) -> NDArray[np.float32]:
    """Points (N, 4) float32 x y z reflectance of a .bin or .klz file. Raises ValueError where the file is damaged."""
    data = path.read_bytes()
    try:
        return _decode_klz(data) if path.suffix == ".klz" else np.frombuffer(data, np.float32).reshape(-1, 4)
    except (ValueError, struct.error, lzma.LZMAError) as error:
        raise ValueError(f"{path} is not a KITTI scan: {error}") from None


def _decode_klz(data: bytes) -> NDArray[np.float32]:
    """KLZ container: b'KLZ1', uint32 N, float64 scale of x y z, float64 scale of the reflectance, then LZMA of
    int32 differences along the scan, x then y then z, each as four planes of bytes (low byte first), and
    N uint8 reflectances."""
    magic, count, scale, scale_reflectance = struct.unpack_from("<4sIdd", data)
    if magic != b"KLZ1":
        raise ValueError("it does not start with KLZ1")
    content = np.frombuffer(lzma.decompress(data[24:]), np.uint8)
    planes = content[: 12 * count].reshape(3, 4, count)
    steps = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<i4")[..., 0]
    points = np.empty((count, 4), np.float32)
    points[:, :3] = np.cumsum(steps, axis=1, dtype=np.int32).T / scale
    points[:, 3] = content[12 * count :] / scale_reflectance
    return points


def _read_stamps(path: Path) -> list[int]:
    """Nanoseconds of lines such as `2011-09-26 13:04:32.335337762`, taken as UTC."""
    return [_nanoseconds(line) for line in path.read_text().splitlines() if line.strip()]


def _nanoseconds(line: str) -> int:
    seconds, _, fraction = line.strip().partition(".")
    return calendar.timegm(time.strptime(seconds, "%Y-%m-%d %H:%M:%S")) * 10**9 + int(fraction.ljust(9, "0")[:9])


def _read_oxts(paths: list[Path]) -> list[Matrix]:
    """Poses of the IMU in its first frame, by the Mercator projection of KITTI's development kit."""
    packets = [np.array(path.read_text().split()[:6], float) for path in paths]
    scale = np.cos(np.radians(packets[0][0])) * _EARTH_RADIUS
    poses = [_mercator_pose(packet, scale) for packet in packets]
    return [se3.inverse(poses[0]) @ pose for pose in poses]


def _mercator_pose(packet: Matrix, scale: float) -> Matrix:
    latitude, longitude, altitude, roll, pitch, yaw = packet.tolist()
    east = scale * np.radians(longitude)
    north = scale * np.log(np.tan(np.radians(90 + latitude) / 2))
    return se3.from_yaw_pitch_roll(yaw, pitch, roll, [east, north, altitude])


def _read_table(path: Path) -> dict[str, Matrix]:
    """Lines `key: numbers` of a calibration file; lines without numbers are left out."""
    table = {}
    for line in path.read_text().splitlines():
        key, _, values = line.partition(":")
        if key != "calib_time" and values.strip():
            table[key] = np.array(values.split(), float)
    return table


def _read_rigid(path: Path) -> Matrix:
    table = _read_table(path)
    return se3.make(table["R"].reshape(3, 3), table["T"])


def _read_camera(folder: Path) -> Camera:
    """The left colour camera (02): its projection is given from the rectified frame of camera 00."""
    table = _read_table(folder / "calib_cam_to_cam.txt")
    lidar_to_rectified = se3.make(table["R_rect_00"].reshape(3, 3), np.zeros(3)) @ _read_rigid(
        folder / "calib_velo_to_cam.txt"
    )
    width, height = table["S_rect_02"].astype(int).tolist()
    return Camera(table["P_rect_02"].reshape(3, 4), width, height, se3.inverse(lidar_to_rectified))


def _read_labels(path: Path, camera_in_lidar: Matrix) -> defaultdict[int, tuple[Objects, Matrix]]:
    """Objects and DontCare rectangles of each frame; a frame without a line has no object."""
    rows: defaultdict[int, list[list[str]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        rows[int(line.split()[0])].append(line.split())
    labels: defaultdict[int, tuple[Objects, Matrix]] = defaultdict(lambda: _labels_of([], camera_in_lidar))
    labels.update({frame: _labels_of(lines, camera_in_lidar) for frame, lines in rows.items()})
    return labels


def _labels_of(lines: list[list[str]], camera_in_lidar: Matrix) -> tuple[Objects, Matrix]:
    solid = [line for line in lines if line[2] != "DontCare"]
    boxes = np.array([line[10:17] for line in solid], float).reshape(-1, 7)
    ignored = np.array([line[6:10] for line in lines if line[2] == "DontCare"], float).reshape(-1, 4)
    names = [CLASSES.get(line[2], "ignore") for line in solid]
    tracks, scores = [line[1] for line in solid], np.ones(len(solid), np.float32)
    kinds = tuple(line[2] for line in solid)
    return Objects(_to_lidar(boxes, camera_in_lidar), names, tracks, scores, kinds), ignored


def _to_lidar(labels: Matrix, camera_in_lidar: Matrix) -> NDArray[np.float32]:
    """Boxes (K, 7) in the LiDAR's frame from labels (K, 7) h w l x y z ry: bottom centres, y down, ry about y.

    At ry = 0 the object faces along the camera's x axis.
    """
    height, width, length, x, y, z, turn = labels.T
    centres = se3.apply(camera_in_lidar, np.stack([x, y - height / 2, z], axis=1))
    heading: Floats = np.stack([np.cos(turn), np.zeros(len(turn)), -np.sin(turn)], axis=1) @ camera_in_lidar[:3, :3].T
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    return np.column_stack([centres, length, width, height, yaw]).astype(np.float32)
