# SPDX-License-Identifier: Apache-2.0
"""When each point of a cloud was measured, whatever the driver calls it and counts it in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from perception_nodes.errors import InvalidMessage
from perception_nodes.point_clouds import check_layout, decode_points, read_field, require_finite
from perception_nodes.stamps import nanoseconds

# t: Ouster; time: Velodyne; timestamp: Hesai, RoboSense, Livox; offset_time: Livox; time_stamp, ts: others.
NAMES = ("t", "time", "timestamp", "offset_time", "time_stamp", "ts")
LONGEST = 2.0  # s, of a sweep; a unit in which it would last longer is not the one
ABSOLUTE = 1e5  # s; no sweep is that long after its stamp, so such times count from the clock's own start


def decode_sweep(message: PointCloud2) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """x y z (N, 3) of the points, and their times (N,) as `decode_times`; where times are told, of those that have one.

    Raises InvalidMessage where the cloud, or its times, cannot be used.
    """
    points, times = decode_points(message)[:, :3], decode_times(message)
    require_finite(points)
    if times is None:
        return points, None
    timed = np.isfinite(times)
    return (points, times) if timed.all() else (points[timed], times[timed])


def decode_times(message: PointCloud2) -> NDArray[np.float64] | None:
    """Seconds (N,) of each point since the stamp of the cloud; None where it does not tell, or all are the same.

    Field of any name in NAMES and any number type. Floats count seconds, integers milliseconds, unless the sweep would
    then last longer than LONGEST: the next smaller unit is taken, down to nanoseconds. Times since the epoch become
    times since the stamp. What a point without a time has stays not finite.

    Raises InvalidMessage where the times are further from the stamp than a sweep can be.
    """
    check_layout(message)
    name = next((field.name for field in message.fields if field.name in NAMES), None)
    if name is None or message.height * message.width == 0:
        return None
    raw = read_field(message, name).ravel()
    if raw.dtype.kind == "f" and not np.isfinite(raw).any():
        return None
    first = np.nanmin(raw) if raw.dtype.kind == "f" else raw.min()
    since_first = (raw - first).astype(np.float64)  # before any scaling: 64-bit nanoseconds keep their digits
    span = float(np.nanmax(since_first))
    if span == 0.0:
        return None
    unit = _unit(span, 1.0 if raw.dtype.kind == "f" else 1e-3)
    start = float(first) * unit
    if abs(start) > ABSOLUTE:
        start -= nanoseconds(message.header.stamp) * 1e-9
    if abs(start) > LONGEST:
        raise InvalidMessage(
            f"the times in '{name}' begin {start:.3f} s from the stamp: let the driver take both from one clock, "
            "or set deskew false"
        )
    return np.asarray(since_first * unit + start)


def _unit(span: float, largest: float) -> float:
    """Seconds in the unit in which a sweep of this span lasts LONGEST at most."""
    unit = largest
    while span * unit > LONGEST and unit > 1e-9:
        unit *= 1e-3
    return unit
