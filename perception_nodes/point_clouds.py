# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/PointCloud2 <-> numpy: every field checked, columns read as views of the message's own buffer."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from perception_nodes.errors import InvalidMessage

Points = NDArray[np.float32]

DTYPES: dict[int, str] = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
FLOATS = ("f4", "f8")
INTENSITIES = ("u1", "u2", "f4", "f8")
# What counts as full reflection where no scale is given. Drivers publish floats either as 0..1 or as 0..255.
FULL_SCALE = {"u1": 255.0, "u2": 65535.0, "f4": 255.0, "f8": 255.0}


def decode_points(message: PointCloud2, intensity_scale: float = 0.0) -> Points:
    """Cloud as (N, 4) float32, columns x y z in metres in the message's frame and intensity 0..1.

    Row padding and big-endian data are read as they are; non-finite points are kept. Intensity is 0 where the cloud
    has none. `intensity_scale` is the value that means full reflection; 0 chooses it: the largest value of an integer
    field, 255 for floats of which any exceeds 1, else 1. Intensities are clipped to 0..1.

    Raises:
        InvalidMessage: a coordinate field is missing or not a float, the layout contradicts itself, data is missing.
    """
    check_layout(message)
    points = np.empty((message.height, message.width, 4), np.float32)
    for column, name in enumerate("xyz"):
        points[..., column] = read_field(message, name, FLOATS)
    if any(field.name == "intensity" for field in message.fields):
        _fill_intensity(points[..., 3], read_field(message, "intensity", INTENSITIES), intensity_scale)
    else:
        points[..., 3] = 0.0
    return points.reshape(-1, 4)


def read_field(message: PointCloud2, name: str, allowed: tuple[str, ...] = tuple(DATATYPES)) -> NDArray[np.generic]:
    """One field as a (height, width) view of the message's buffer, in the message's byte order.

    Raises InvalidMessage where the field is missing, has a datatype that is not `allowed` or lies outside the point.
    Expects a message that `check_layout` accepts.
    """
    field = next((field for field in message.fields if field.name == name), None)
    if field is None:
        present = ", ".join(field.name for field in message.fields) or "none"
        raise InvalidMessage(f"the cloud has no field '{name}' (it has: {present}); publish x, y and z as FLOAT32")
    dtype = DTYPES.get(field.datatype)
    if dtype not in allowed or field.count > 1:
        found = f"datatype {field.datatype} ({dtype or 'unknown'}), count {field.count}"
        raise InvalidMessage(f"field '{name}' has {found}; expected one of {', '.join(allowed)} with count 1")
    item = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    if field.offset + item.itemsize > message.point_step:
        place = f"bytes {field.offset} to {field.offset + item.itemsize}"
        raise InvalidMessage(f"field '{name}' ({place}) lies outside the point of {message.point_step} bytes")
    shape = (message.height, message.width)
    if 0 in shape:
        return np.zeros(shape, item)
    return np.ndarray(shape, item, message.data, field.offset, (_row_step(message), message.point_step))


def check_layout(message: PointCloud2) -> None:
    """Raises InvalidMessage where width, height, steps and the length of the data contradict each other."""
    if message.height * message.width == 0:
        return
    packed = message.width * message.point_step
    if message.point_step == 0 or _row_step(message) < packed:
        raise InvalidMessage(f"row_step {message.row_step} is shorter than a row of {packed} bytes; fix the driver")
    needed = (message.height - 1) * _row_step(message) + packed
    if len(message.data) < needed:
        raise InvalidMessage(
            f"the cloud is truncated: {message.height} x {message.width} points need {needed} bytes, "
            f"{len(message.data)} came; check the transport and the driver"
        )


def require_finite(points: Points) -> None:
    """Raises InvalidMessage where no point (N, >= 3) has finite coordinates, an empty cloud included."""
    if len(points) == 0:
        raise InvalidMessage("the cloud is empty; check the sensor")
    finite = np.isfinite(points[:, 0])
    for column in (1, 2):  # column by column: many times faster than `isfinite(points).all(axis=1)`
        finite &= np.isfinite(points[:, column])
    if not finite.any():
        raise InvalidMessage(f"none of the {len(points)} points has finite coordinates; check the sensor")


def encode_points(
    points: Points, header: Header, extra: Mapping[str, NDArray[np.generic]] | None = None
) -> PointCloud2:
    """Unorganised little-endian cloud of points (N, 3) x y z or (N, 4) with intensity, metres in the header's frame.

    `extra` names further columns (N,) of any PointField type, for example `label` as int32.
    Raises ValueError where the shapes disagree.
    """
    if points.ndim != 2 or points.shape[1] not in (3, 4):
        raise ValueError(f"points have shape {points.shape}; expected (N, 3) or (N, 4)")
    names = ("x", "y", "z", "intensity")[: points.shape[1]]
    columns = dict(zip(names, np.asarray(points, np.float32).T, strict=True)) | dict(extra or {})
    record = np.dtype([(name, column.dtype.newbyteorder("<")) for name, column in columns.items()])
    records = np.empty(len(points), record)
    for name, column in columns.items():
        records[name] = column
    return PointCloud2(
        header=header,
        height=1,
        width=len(records),
        fields=[_field(name, record) for name in columns],
        is_bigendian=False,
        point_step=record.itemsize,
        row_step=record.itemsize * len(records),
        data=array("B", records.tobytes()),
        is_dense=bool(np.isfinite(points).all()),
    )


def packed_colors(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours (N, 3) RGB as the column (N,) `rgb` of a cloud, as PCL and RViz take it."""
    red, green, blue = colors.T.astype(np.uint32)
    packed: NDArray[np.uint32] = (red << 16) | (green << 8) | blue
    return packed.view(np.float32)


def _row_step(message: PointCloud2) -> int:
    """Bytes from row to row; a cloud of one row has no use for the field, and drivers leave it zero."""
    return int(message.row_step) if message.height > 1 else int(message.width * message.point_step)


def _fill_intensity(target: Points, raw: NDArray[np.generic], scale: float) -> None:
    target[...] = raw
    if scale == 0.0:
        is_unit = raw.dtype.kind == "f" and not (target > 1.0).any()
        scale = 1.0 if is_unit else FULL_SCALE[raw.dtype.str[1:]]
    if scale != 1.0:
        target *= np.float32(1.0 / scale)
    np.clip(target, 0.0, 1.0, out=target)


def _field(name: str, record: np.dtype[np.void]) -> PointField:
    dtype, offset = record.fields[name][:2]  # type: ignore[index]  # a record dtype has fields
    return PointField(name=name, offset=offset, datatype=DATATYPES[dtype.str[1:]], count=1)
