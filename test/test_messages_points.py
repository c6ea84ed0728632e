# SPDX-License-Identifier: Apache-2.0
"""PointCloud2 decoding against a brute-force reader, point by point and byte by byte, and its refusals."""

from __future__ import annotations

import struct
from array import array

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="sensor_msgs is not installed")

from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from perception_nodes.errors import InvalidMessage
from perception_nodes.point_clouds import check_layout, decode_points, encode_points, read_field, require_finite

FORMATS = {
    PointField.UINT8: "B",
    PointField.UINT16: "H",
    PointField.FLOAT32: "f",
    PointField.FLOAT64: "d",
}


def build(values, fields, *, height=1, big=False, padding=0, offset=0, gap=0):
    """Cloud of values (N, F), packed with struct: `offset` bytes before the fields, `gap` after, `padding` a row."""
    order, places, place = ">" if big else "<", [], offset
    for name, datatype in fields:
        places.append(PointField(name=name, offset=place, datatype=datatype, count=1))
        place += struct.calcsize(FORMATS[datatype])
    step, width = place + gap, len(values) // height
    data = bytearray()
    for row in range(height):
        for point in values[row * width : (row + 1) * width]:
            data += b"\xaa" * offset
            for (_, datatype), value in zip(fields, point, strict=True):
                data += struct.pack(order + FORMATS[datatype], value)
            data += b"\xaa" * gap
        data += b"\xaa" * padding
    return PointCloud2(
        header=Header(frame_id="lidar"),
        height=height,
        width=width,
        fields=places,
        is_bigendian=big,
        point_step=step,
        row_step=step * width + padding,
        data=array("B", bytes(data)),
    )


def read_slowly(message):
    """x y z intensity of every point with struct, one value at a time, intensity unscaled."""
    order, points = ">" if message.is_bigendian else "<", []
    for row in range(message.height):
        for column in range(message.width):
            start, found = row * message.row_step + column * message.point_step, {}
            for field in message.fields:
                code = order + FORMATS[field.datatype]
                [found[field.name]] = struct.unpack_from(code, bytes(message.data), start + field.offset)
            points.append([found["x"], found["y"], found["z"], found.get("intensity", 0.0)])
    return np.array(points, np.float32)


XYZ = [(name, PointField.FLOAT32) for name in "xyz"]
RNG = np.random.default_rng(3)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("height", "padding"), [(1, 0), (4, 0), (4, 13)])
@pytest.mark.parametrize(("offset", "gap"), [(0, 0), (3, 5)])
@pytest.mark.parametrize("kind", [PointField.FLOAT32, PointField.FLOAT64])
def test_every_layout_reads_as_the_slow_reader_does(big, height, padding, offset, gap, kind):
    fields = [("intensity", PointField.FLOAT32), *((name, kind) for name in "zyx")]
    values = RNG.uniform(0, 1, (24, 4)).tolist()
    message = build(values, fields, height=height, big=big, padding=padding, offset=offset, gap=gap)
    before = bytes(message.data)
    points = decode_points(message)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, read_slowly(message))
    assert bytes(message.data) == before


def test_a_cloud_without_intensity_has_zeros():
    points = decode_points(build([[1, 2, 3]], XYZ))
    np.testing.assert_array_equal(points, [[1, 2, 3, 0]])


@pytest.mark.parametrize(
    ("datatype", "raw", "expected"),
    [
        (PointField.UINT8, [0, 51, 255], [0, 0.2, 1]),
        (PointField.UINT16, [0, 13107, 65535], [0, 0.2, 1]),
        (PointField.FLOAT32, [0, 0.2, 1], [0, 0.2, 1]),
        (PointField.FLOAT32, [0, 51, 255], [0, 0.2, 1]),
        (PointField.FLOAT64, [0, 51, 300], [0, 0.2, 1]),
        (PointField.FLOAT32, [-5, 0.5, float("nan")], [0, 0.5, float("nan")]),
    ],
)
def test_intensity_becomes_zero_to_one(datatype, raw, expected):
    message = build([[0, 0, 0, value] for value in raw], [*XYZ, ("intensity", datatype)])
    np.testing.assert_allclose(decode_points(message)[:, 3], expected, atol=1e-6)


def test_a_given_scale_holds_for_every_cloud():
    message = build([[0, 0, 0, 0.5], [0, 0, 0, 0.8]], [*XYZ, ("intensity", PointField.FLOAT32)])
    np.testing.assert_allclose(decode_points(message, intensity_scale=100.0)[:, 3], [0.005, 0.008], atol=1e-7)


def test_values_that_are_not_finite_are_kept():
    points = decode_points(build([[np.nan, np.inf, 1], [1, 2, -np.inf]], XYZ))
    np.testing.assert_array_equal(points[:, :3], np.array([[np.nan, np.inf, 1], [1, 2, -np.inf]], np.float32))


def test_encoding_and_decoding_give_the_points_and_the_columns_back():
    points = RNG.uniform(0, 1, (50, 4)).astype(np.float32)
    labels, times = np.arange(50, dtype=np.int32), RNG.uniform(0, 0.1, 50)
    header = Header(frame_id="lidar")
    message = encode_points(points, header, {"label": labels, "time": times})
    assert isinstance(message.data, array)
    assert message.header == header
    assert message.is_dense
    check_layout(message)
    np.testing.assert_array_equal(decode_points(message), points)
    np.testing.assert_array_equal(read_field(message, "label")[0], labels)
    np.testing.assert_array_equal(read_field(message, "time")[0], times)


def test_fields_are_views_of_the_message_and_not_copies():
    message = encode_points(RNG.uniform(0, 1, (5, 3)).astype(np.float32), Header())
    assert np.shares_memory(read_field(message, "y"), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 2)])
def test_other_shapes_are_not_encoded(shape):
    with pytest.raises(ValueError, match="expected"):
        encode_points(np.zeros(shape, np.float32), Header())


def good():
    return build([[1, 2, 3]] * 6, XYZ, height=2)


def changed(**values):
    message = good()
    for name, value in values.items():
        setattr(message, name, value)
    return message


def with_field(**values):
    message = good()
    for name, value in values.items():
        setattr(message.fields[1], name, value)
    return message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (changed(fields=[]), "no field 'x' \\(it has: none\\)"),
        (changed(fields=good().fields[:2]), "no field 'z'"),
        (with_field(datatype=PointField.INT16), "field 'y' has datatype 3"),
        (with_field(datatype=99), "datatype 99 \\(unknown\\)"),
        (with_field(count=3), "count 3"),
        (with_field(offset=10), "lies outside the point of 12 bytes"),
        (with_field(datatype=PointField.FLOAT64, offset=8), "lies outside"),
        (changed(data=good().data[:-1]), "truncated: 2 x 3 points need 72 bytes, 71 came"),
        (changed(data=array("B")), "truncated"),
        (changed(point_step=0), "row_step"),
        (changed(row_step=20), "row_step 20 is shorter than a row of 36"),
        (changed(width=1000, row_step=12000), "truncated"),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_reason(message, text):
    with pytest.raises(InvalidMessage, match=text):
        decode_points(message)


def test_drivers_that_leave_the_row_step_zero_in_one_row_are_read():
    message = build([[1, 2, 3], [4, 5, 6]], XYZ)
    message.row_step = 0
    np.testing.assert_array_equal(decode_points(message)[:, :3], [[1, 2, 3], [4, 5, 6]])


def test_an_empty_cloud_is_no_points_and_is_not_finite():
    points = decode_points(encode_points(np.zeros((0, 4), np.float32), Header()))
    assert points.shape == (0, 4)
    with pytest.raises(InvalidMessage, match="empty"):
        require_finite(points)


def test_one_finite_point_is_enough_and_none_is_not():
    points = np.full((10, 4), np.nan, np.float32)
    points[:, 0] = 1.0
    points[5, 1] = 2.0
    with pytest.raises(InvalidMessage, match="none of the 10 points"):
        require_finite(points)
    points[5, 2] = 3.0
    require_finite(points)
