# SPDX-License-Identifier: Apache-2.0
"""The message packages of tools/interfaces are the official ones in names and fields, and are built once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

TOOLS = Path(__file__).resolve().parent.parent / "tools"
TYPES = {
    name: fields
    for path in sorted((TOOLS / "interfaces").glob("*/msg/*.msg"))
    for name, fields in get_types_from_msg(path.read_text(), f"{path.parts[-3]}/msg/{path.stem}").items()
}


@pytest.fixture(scope="module")
def typestore() -> Typestore:
    """Standard messages as rosbags knows them, with our definitions of those that it does not know."""
    store = get_typestore(Stores.ROS2_KILTED)
    store.register({name: fields for name, fields in TYPES.items() if name not in store.fielddefs})
    return store


@pytest.mark.parametrize("name", ["tf2_msgs/msg/TFMessage", "tf2_msgs/msg/TF2Error"])
def test_transform_messages_are_defined_as_officially(name: str) -> None:
    assert TYPES[name] == get_typestore(Stores.ROS2_KILTED).fielddefs[name]


@pytest.mark.parametrize("name", TYPES)
def test_generated_class_has_the_fields_of_its_definition(name: str) -> None:
    package, _, message = name.split("/")
    module = pytest.importorskip(f"{package}.msg", reason="no ROS installation and not generated")
    generated = getattr(module, message).get_fields_and_field_types()
    assert list(generated) == [field for field, _ in TYPES[name][1]]


def test_detections_travel_as_the_bytes_that_bags_hold(typestore: Typestore) -> None:
    messages = pytest.importorskip("vision_msgs.msg", reason="no ROS installation and not generated")
    serialization = pytest.importorskip("rclpy.serialization")
    detection = messages.Detection3D(id="7")
    detection.bbox.size.x = 4.2
    detection.results.append(messages.ObjectHypothesisWithPose())
    detection.results[0].hypothesis.class_id = "vehicle"
    sent = serialization.serialize_message(messages.Detection3DArray(detections=[detection]))
    read = typestore.deserialize_cdr(sent, "vision_msgs/msg/Detection3DArray")
    assert (read.detections[0].id, read.detections[0].bbox.size.x) == ("7", 4.2)
    assert read.detections[0].results[0].hypothesis.class_id == "vehicle"


def test_second_set_up_builds_nothing() -> None:
    command = [sys.executable, str(TOOLS / "build_interfaces.py")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
