# SPDX-License-Identifier: Apache-2.0
"""When points were measured, as the drivers tell it."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from perception_nodes.errors import InvalidMessage
from perception_nodes.point_clouds import encode_points
from perception_nodes.point_times import decode_times

STAMP = 1_700_000_000
SECONDS = np.linspace(0, 0.1, 101)


def cloud(name, values):
    header = Header(stamp=Time(sec=STAMP), frame_id="lidar")
    return encode_points(np.zeros((len(values), 3), np.float32), header, {name: values})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("time", SECONDS.astype(np.float32)),
        ("t", np.round(SECONDS * 1e9).astype(np.uint32)),
        ("offset_time", np.round(SECONDS * 1e6).astype(np.uint32)),
        ("ts", np.round(SECONDS * 1e3).astype(np.int16)),
        ("timestamp", STAMP + SECONDS),
        ("timestamp", (STAMP + SECONDS) * 1e9),
        ("time_stamp", (SECONDS * 1e6).astype(np.float32)),
    ],
)
def test_every_name_type_and_unit_gives_seconds_since_the_stamp(name, values) -> None:
    np.testing.assert_allclose(decode_times(cloud(name, values)), SECONDS, atol=1e-6)


def test_a_stamp_at_the_end_of_the_sweep_gives_times_before_it() -> None:
    np.testing.assert_allclose(
        decode_times(cloud("time", (SECONDS - 0.1).astype(np.float32))), SECONDS - 0.1, atol=1e-7
    )


def test_no_times_and_one_time_for_all_tell_nothing() -> None:
    assert decode_times(cloud("ring", np.zeros(5, np.uint16))) is None
    assert decode_times(cloud("time", np.full(5, 0.03, np.float32))) is None
    assert decode_times(cloud("time", np.full(5, np.nan, np.float32))) is None
    assert decode_times(cloud("time", np.zeros(0, np.float32))) is None


def test_a_point_without_a_time_stays_without_one() -> None:
    values = np.array([0.0, np.nan, 0.1], np.float32)

    np.testing.assert_allclose(decode_times(cloud("time", values)), [0, np.nan, 0.1], atol=1e-7)


def test_times_of_another_clock_are_rejected() -> None:
    with pytest.raises(InvalidMessage, match=r"begin 60\.000 s from the stamp"):
        decode_times(cloud("timestamp", STAMP + 60 + SECONDS))
    with pytest.raises(InvalidMessage, match="one clock"):
        decode_times(cloud("time", (SECONDS - 40).astype(np.float32)))
