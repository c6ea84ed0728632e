# SPDX-License-Identifier: Apache-2.0
"""Parameters come from one dataclass, are described, and are applied all together or not at all."""

from __future__ import annotations

from dataclasses import fields

import pytest
from node_support import FakeDetector, context, overrides  # noqa: F401
from rclpy.parameter import Parameter

from perception_nodes.detection_node import DetectionNode, DetectionParameters
from perception_nodes.parameters import InvalidParameters, ros_name


@pytest.fixture
def make(context):  # noqa: F811
    nodes = []

    def make(**values):
        values = {"autostart": False, **values}
        node = DetectionNode(lambda _: FakeDetector(), context=context, parameter_overrides=overrides(**values))
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def test_values_given_at_start_are_taken(make):
    parameters = make(nms_iou=0.5, score_threshold__cyclist=0.1, variant="official").parameters
    assert (parameters.nms_iou, parameters.score_cyclist, parameters.variant) == (0.5, 0.1, "official")


def test_every_parameter_has_a_description_and_numbers_have_a_range(make):
    node = make()
    for entry in fields(DetectionParameters):
        described = node.describe_parameter(ros_name(entry))
        assert len(described.description) > 10, ros_name(entry)
        if isinstance(entry.default, float):
            assert len(described.floating_point_range) == 1, ros_name(entry)
        elif type(entry.default) is int:
            assert len(described.integer_range) == 1, ros_name(entry)
    assert node.describe_parameter("max_age").description.endswith("[s]")


def test_all_invalid_values_at_start_are_named_at_once(make):
    with pytest.raises(InvalidParameters) as caught:
        make(nms_iou=1.5, threads=-1, backend="magic", max_age=float("nan"), variant=3)
    for name in ("nms_iou", "threads", "backend", "max_age", "variant"):
        assert name in str(caught.value)


def test_one_invalid_value_rejects_its_whole_set(make):
    node = make()
    before = node.parameters
    cases = {"score_threshold.vehicle": 1.5, "max_age": float("inf"), "publish_markers": 1}
    for name, bad in cases.items():
        result = node.set_parameters_atomically([*overrides(nms_iou=0.7), Parameter(name, value=bad)])
        assert not result.successful
        assert name in result.reason or "Wrong parameter type" in result.reason
        assert node.parameters is before
        assert node.get_parameter("nms_iou").value == 0.2


def test_a_valid_set_is_applied_as_one_new_object(make):
    node = make()
    before = node.parameters
    assert node.set_parameters_atomically(overrides(nms_iou=0.7, max_age=2.0)).successful
    assert (node.parameters.nms_iou, node.parameters.max_age) == (0.7, 2.0)
    assert before.nms_iou == 0.2


def test_what_the_model_was_loaded_with_changes_only_while_unconfigured(make):
    node = make()
    assert node.set_parameters_atomically(overrides(variant="official")).successful
    node.trigger_configure()
    result = node.set_parameters_atomically(overrides(variant="compact", nms_iou=0.9))
    assert result.reason == "variant is fixed while the node is configured: clean up first"
    assert node.parameters.nms_iou == 0.2
    assert node.set_parameters_atomically(overrides(variant="official")).successful
    node.trigger_cleanup()
    assert node.set_parameters_atomically(overrides(variant="compact")).successful


def test_simulated_time_can_still_be_switched(make):
    node = make()
    assert node.set_parameters_atomically(overrides(use_sim_time=True, nms_iou=0.6)).successful
    assert node.parameters.nms_iou == 0.6
