# SPDX-License-Identifier: Apache-2.0
"""Detections, poses and markers as messages: what goes in comes out, and what is not valid is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("vision_msgs", reason="vision_msgs is not generated")

from geometry_msgs.msg import Quaternion
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesis, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker

from perception_models.detection import Detections
from perception_models.geometry import se3
from perception_models.geometry.boxes import corners_3d, wrap_angle
from perception_nodes.errors import InvalidMessage
from perception_nodes.messages import (
    CLASSES,
    decode_box,
    decode_detections,
    decode_ids,
    decode_pose,
    decode_transform,
    encode_box,
    encode_detections,
    encode_markers,
    encode_pose,
    encode_transform,
)

HEADER = Header(frame_id="lidar")
RNG = np.random.default_rng(1)


def some_detections(count=20):
    low, high = [-40] * 3 + [0.3] * 3 + [-np.pi], [40] * 3 + [9] * 3 + [np.pi]
    boxes = RNG.uniform(low, high, (count, 7))
    labels = RNG.integers(0, 3, count)
    return Detections(boxes.astype(np.float32), RNG.uniform(0, 1, count).astype(np.float32), labels, CLASSES)


def test_detections_come_back_as_they_went():
    sent = some_detections()
    message = encode_detections(sent, HEADER, ids=range(20))
    got = decode_detections(message)
    np.testing.assert_allclose(got.boxes[:, :6], sent.boxes[:, :6], rtol=1e-6)
    np.testing.assert_allclose(wrap_angle(got.boxes[:, 6] - sent.boxes[:, 6]), 0, atol=1e-6)
    np.testing.assert_array_equal(got.scores, sent.scores)
    np.testing.assert_array_equal(got.labels, sent.labels)
    assert got.names == CLASSES
    assert decode_ids(message) == tuple(str(number) for number in range(20))


def test_every_detection_carries_the_header_and_its_pose_twice():
    for detection in encode_detections(some_detections(), HEADER).detections:
        assert detection.header == HEADER
        assert detection.results[0].pose.pose == detection.bbox.center
        assert detection.id == ""


def test_no_detections_are_an_empty_message_and_back():
    empty = Detections(np.zeros((0, 7), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), CLASSES)
    got = decode_detections(encode_detections(empty, HEADER))
    assert got.boxes.shape == (0, 7)
    assert got.scores.shape == got.labels.shape == (0,)


def test_the_best_hypothesis_counts_and_new_classes_are_appended():
    results = [
        ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=score))
        for name, score in (("vehicle", 0.2), ("tram", 0.7))
    ]
    box = encode_box(np.array([1, 2, 3, 4, 5, 6, 0.1]))
    got = decode_detections(Detection3DArray(detections=[Detection3D(results=results, bbox=box)]))
    assert got.names == (*CLASSES, "tram")
    assert got.names[got.labels[0]] == "tram"
    assert got.scores[0] == np.float32(0.7)


def test_a_detection_without_a_hypothesis_is_refused():
    message = Detection3DArray(detections=[Detection3D(bbox=encode_box(np.ones(7)), id="7")])
    with pytest.raises(InvalidMessage, match="detection '7' has no hypothesis"):
        decode_detections(message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_results_that_are_not_finite_are_not_encoded(value):
    for broken in ("boxes", "scores"):
        detections = some_detections()
        getattr(detections, broken)[3] = value
        with pytest.raises(ValueError, match="not finite"):
            encode_detections(detections, HEADER)


def test_ids_must_be_as_many_as_detections():
    with pytest.raises(ValueError, match="shorter"):
        encode_detections(some_detections(3), HEADER, ids=[1, 2])


def test_a_tilted_box_keeps_its_heading():
    message = encode_box(np.array([0, 0, 0, 4, 2, 1.5, 0]))
    message.center = encode_pose(se3.from_yaw_pitch_roll(1.1, 0.2, 0.0))
    assert decode_box(message)[6] == pytest.approx(1.1)


@pytest.mark.parametrize(("side", "text"), [(0.0, "positive"), (-1.0, "positive"), (np.nan, "positive")])
def test_boxes_without_a_size_are_refused(side, text):
    message = encode_box(np.ones(7))
    message.size.y = side
    with pytest.raises(InvalidMessage, match=text):
        decode_box(message)


def test_orientations_that_are_no_rotation_are_refused():
    message = encode_pose(np.eye(4))
    message.orientation = Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)
    with pytest.raises(InvalidMessage, match="not a rotation"):
        decode_pose(message)


def test_positions_that_are_not_finite_are_refused():
    message = encode_pose(np.eye(4))
    message.position.z = np.nan
    with pytest.raises(InvalidMessage, match="not finite"):
        decode_pose(message)


def test_poses_and_transforms_come_back_as_they_went():
    for yaw, pitch, roll in RNG.uniform(-1.5, 1.5, (20, 3)):
        pose = se3.from_yaw_pitch_roll(yaw, pitch, roll, RNG.uniform(-9, 9, 3))
        np.testing.assert_allclose(decode_pose(encode_pose(pose)), pose, atol=1e-12)
        np.testing.assert_allclose(decode_transform(encode_transform(pose)), pose, atol=1e-12)


def ends(marker):
    """Ends of the lines of a LINE_LIST: (boxes, 13 lines, 2, 3)."""
    return np.array([[p.x, p.y, p.z] for p in marker.points]).reshape(-1, 13, 2, 3)


def test_markers_delete_first_and_then_draw_edges_and_heading_of_every_box():
    detections = some_detections(6)
    first, *markers = encode_markers(detections, HEADER).markers
    assert first.action == Marker.DELETEALL
    assert [marker.ns for marker in markers] == [CLASSES[label] for label in np.unique(detections.labels)]
    for marker in markers:
        assert marker.type == Marker.LINE_LIST
        of_class = [CLASSES[label] == marker.ns for label in detections.labels]
        boxes, lines = detections.boxes[of_class], ends(marker)
        for box, edges in zip(boxes, lines[:, :12], strict=True):
            apart = np.linalg.norm(edges.reshape(-1, 1, 3) - corners_3d(box[None])[0], axis=2)
            assert apart.min(axis=1).max() < 1e-6
            assert (np.bincount(apart.argmin(axis=1)) == 3).all()
        lengths = np.linalg.norm(lines[:, :12, 0] - lines[:, :12, 1], axis=2)
        np.testing.assert_allclose(np.sort(lengths), np.sort(np.repeat(boxes[:, 3:6], 4, axis=1)), rtol=1e-4)
        start, end = lines[:, 12, 0], lines[:, 12, 1]
        np.testing.assert_allclose(start, boxes[:, :3], atol=1e-5)
        ahead = end - start
        np.testing.assert_allclose(wrap_angle(np.arctan2(ahead[:, 1], ahead[:, 0]) - boxes[:, 6]), 0, atol=1e-5)


def test_marker_text_names_class_and_score_above_every_box_and_comes_only_when_asked():
    detections = some_detections(6)
    markers = encode_markers(detections, HEADER, with_text=True).markers
    texts = [marker for marker in markers if marker.type == Marker.TEXT_VIEW_FACING]
    pairs = zip(detections.labels, detections.scores, strict=True)
    assert [text.text for text in texts] == [f"{CLASSES[label]} {score:.2f}" for label, score in pairs]
    tops = detections.boxes[:, 2] + detections.boxes[:, 5] / 2
    assert all(text.pose.position.z > top for text, top in zip(texts, tops, strict=True))
    assert len({(marker.ns, marker.id) for marker in markers}) == len(markers)
    assert len(encode_markers(detections, HEADER).markers) == len(markers) - len(texts)


def test_markers_of_a_class_have_its_colour_and_classes_differ():
    markers = encode_markers(some_detections(), HEADER, with_text=True).markers[1:]
    colours = {}
    for marker in markers:
        name = marker.text.split()[0] if marker.text else marker.ns
        colours.setdefault(name, set()).add((marker.color.r, marker.color.g, marker.color.b, marker.color.a))
    assert all(len(seen) == 1 for seen in colours.values())
    assert len(set.union(*colours.values())) == len(colours) == 3


def test_no_detections_only_delete():
    [marker] = encode_markers(some_detections(0), HEADER).markers
    assert marker.action == Marker.DELETEALL
