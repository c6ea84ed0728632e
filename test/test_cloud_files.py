# SPDX-License-Identifier: Apache-2.0
"""Clouds of points from files, and LZF."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from perception_models.registration.cloud_files import read_cloud
from perception_models.registration.lzf import decompress

POINTS = np.random.default_rng(0).normal(0, 10, (50, 3)).astype(np.float32)


def compress(data: bytes) -> bytes:
    """LZF as slow and plain as can be: the longest repetition, else a byte as it is."""
    out, at = bytearray(), 0
    while at < len(data):
        length, start = max(((match(data, start, at), start) for start in range(max(0, at - 8192), at)), default=(0, 0))
        if length < 3:
            out += bytes([0, data[at]])
            at += 1
            continue
        distance, code = at - start - 1, length - 2
        out += bytes([min(code, 7) << 5 | distance >> 8, *([code - 7] if code >= 7 else []), distance & 255])
        at += length
    return bytes(out)


def match(data: bytes, start: int, at: int) -> int:
    """For how many bytes the data go on at `at` as at `start`."""
    length = 0
    while at + length < len(data) and length < 264 and data[start + length] == data[at + length]:
        length += 1
    return length


def test_what_was_compressed_comes_back() -> None:
    rng = np.random.default_rng(1)
    for data in (b"", b"a", b"abcabcabcabcabcX" * 9, bytes(900), rng.integers(0, 4, 700, np.uint8).tobytes()):
        assert decompress(compress(data), len(data)) == data


def test_a_run_of_bytes_as_they_are_is_taken_whole() -> None:
    assert decompress(b"\x1f" + bytes(range(32)) + b"\x00x", 33) == bytes(range(32)) + b"x"


@pytest.mark.parametrize(
    ("block", "reason"),
    [(b"\x20", "within a piece"), (b"\x00a\x20\x01", "before their start"), (b"\x00a", "1 bytes, 9 are announced")],
)
def test_a_damaged_block_says_why(block: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decompress(block, 9)


def test_recorded_clouds_are_read_whole(perception_data) -> None:
    """Compressed, with a COUNT and a SIZE for each field; the number of finite points is that of Open3D."""
    assert len(read_cloud(perception_data / "osd" / "test43.pcd").points) == 170986


def pcd(kind: str, body: bytes) -> bytes:
    header = "VERSION .7\nFIELDS rgb x y z n\nSIZE 4 4 4 4 8\nTYPE U F F F F\nCOUNT 1 1 1 1 2\nWIDTH 50\nHEIGHT 1\n"
    return f"# a comment\n{header}VIEWPOINT 1 2 3 1 0 0 0\nPOINTS 50\nDATA {kind}\n".encode() + body


def pcd_records() -> np.ndarray:
    records = np.zeros(50, [("rgb", "<u4"), ("xyz", "<f4", 3), ("n", "<f8", 2)])
    records["xyz"] = POINTS
    return records


def compressed(records: np.ndarray) -> bytes:
    """The body of a file whose data are binary_compressed: field after field."""
    fields = b"".join(
        np.ascontiguousarray(part).tobytes() for part in (records["rgb"], *records["xyz"].T, records["n"])
    )
    packed = compress(fields)
    return struct.pack("<II", len(packed), len(fields)) + packed


def test_pcd_files_are_read_with_fields_in_any_order(tmp_path) -> None:
    text = "".join(f"7 {x:.9g} {y:.9g} {z:.9g} 0.5 0.5\n" for x, y, z in POINTS)
    records = pcd_records()
    bodies = {"ascii": text.encode(), "binary": records.tobytes(), "binary_compressed": compressed(records)}
    for kind, body in bodies.items():
        path = tmp_path / f"{kind}.pcd"
        path.write_bytes(pcd(kind, body))

        cloud = read_cloud(path)

        np.testing.assert_allclose(cloud.points, POINTS, rtol=1e-6)
        np.testing.assert_array_equal(cloud.viewpoints, [[1, 2, 3]])


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_files_are_read_with_faces_left_out(tmp_path, order) -> None:
    header = (
        f"ply\nformat {order} 1.0\ncomment made by hand\nelement vertex 50\nproperty uchar red\nproperty double x\n"
        "property double y\nproperty double z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    record = np.dtype([("red", "u1"), ("xyz", ">f8" if "big" in order else "<f8", 3)])
    rows = np.zeros(50, record)
    rows["xyz"] = POINTS
    text = "".join(f"3 {x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in POINTS).encode()
    path = tmp_path / "cloud.ply"
    path.write_bytes(header.encode() + (text if order == "ascii" else rows.tobytes()) + b"3 0 1 2")

    np.testing.assert_allclose(read_cloud(path).points, POINTS, rtol=1e-6)


def test_points_that_are_not_finite_are_left_out_of_what_is_read(tmp_path) -> None:
    np.save(tmp_path / "cloud.npy", np.vstack([POINTS, np.full((3, 3), np.nan)]))

    np.testing.assert_array_equal(read_cloud(tmp_path / "cloud.npy").points, POINTS)


def test_files_that_cannot_be_read_say_why(tmp_path) -> None:
    whole = pcd("binary", pcd_records().tobytes())
    broken = {
        "short.pcd": (whole[:-20], "announced"),
        "packed.pcd": (pcd("binary_compressed", compressed(pcd_records())[:-9]), "announced"),
        "other.pcd": (pcd("zipped", b""), "zipped"),
        "cut.pcd": (whole[:60], "ends before"),
        "text.ply": (b"hello\n", "does not start with"),
        "cloud.xyz": (b"1 2 3", "is no"),
    }
    for name, (content, reason) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            read_cloud(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_cloud(tmp_path / "absent.ply")
