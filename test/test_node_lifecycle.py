# SPDX-License-Identifier: Apache-2.0
"""The base node's life: every transition can fail without killing it, and none of them leaks."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from functools import partial
from pathlib import Path

import psutil
import pytest
from node_support import Bench, FakeDetector, context, launch, overrides, wait_for  # noqa: F401
from rclpy.lifecycle import TransitionCallbackReturn

from perception_models.detection.pipeline import WEIGHTS
from perception_nodes.detection_node import DetectionNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def node(context):  # noqa: F811
    """A node that nothing spins: the test calls its transitions."""
    detectors = []

    def load(parameters):
        detectors.append(FakeDetector())
        return detectors[-1]

    node = DetectionNode(load, context=context, parameter_overrides=overrides(autostart=False))
    node.detectors = detectors
    yield node
    node.destroy_node()


def fail(*arguments, **named):
    raise RuntimeError("on purpose")


def subscribed(node):
    return [subscription.topic_name for subscription in node.subscriptions if "points" in subscription.topic_name]


def test_it_subscribes_only_while_active(node):
    assert not subscribed(node)
    node.trigger_configure()
    assert not subscribed(node)
    node.trigger_activate()
    assert subscribed(node) == ["/detection_node/points"]
    node.trigger_deactivate()
    assert not subscribed(node)


def test_a_load_that_fails_leaves_it_unconfigured_and_can_be_repeated(node, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(node, "load", fail)
        assert node.trigger_configure() == FAILURE
    assert node.state == "unconfigured"
    assert node.transition_error == "configure failed: on purpose"
    assert node.trigger_configure() == SUCCESS
    assert node.transition_error == ""


def test_a_configuration_that_fails_half_way_is_undone(node, monkeypatch):
    before = len(list(node.publishers))
    with monkeypatch.context() as patch:
        patch.setattr(node, "create_publisher", fail)
        assert node.trigger_configure() == FAILURE
    assert node.detectors[0].closed == 1
    assert len(list(node.publishers)) == before
    with pytest.raises(RuntimeError, match="not loaded"):
        node.model  # noqa: B018


def test_an_activation_that_fails_half_way_is_undone(node, monkeypatch):
    node.trigger_configure()
    threads = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(node, "create_subscription", fail)
        assert node.trigger_activate() == FAILURE
    assert node.state == "inactive"
    assert threading.active_count() == threads
    assert node.trigger_activate() == SUCCESS


def test_a_deactivation_that_fails_has_still_stopped_the_work(node, monkeypatch):
    node.trigger_configure()
    threads = threading.active_count()
    node.trigger_activate()
    node.while_active.callback(fail)
    assert node.trigger_deactivate() == FAILURE
    assert node.state == "active"
    assert threading.active_count() == threads
    assert not subscribed(node)
    assert node.trigger_deactivate() == SUCCESS


def test_a_cleanup_that_fails_has_still_freed_everything_and_says_how_to_go_on(node):
    node.trigger_configure()
    detector = node.detectors[0]
    node.keep(type("Stubborn", (), {"close": fail})())
    assert node.trigger_cleanup() == FAILURE
    assert detector.closed == 1
    assert node.state == "inactive"
    assert node.trigger_activate() == FAILURE
    assert "clean up and configure" in node.transition_error
    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS


def test_a_shutdown_that_fails_ends_finalized_with_everything_freed(node):
    node.trigger_configure()
    node.trigger_activate()
    node.while_active.callback(fail)
    assert node.trigger_shutdown() == FAILURE
    assert node.state == "finalized"
    assert node.detectors[0].closed == 1


def test_transitions_that_do_not_fit_the_state_change_nothing(node):
    node.trigger_activate()
    assert node.state == "unconfigured"
    node.trigger_configure()
    assert node.state == "inactive"


def test_destroying_twice_is_harmless(node):
    node.trigger_configure()
    node.trigger_activate()
    node.destroy_node()
    node.destroy_node()
    assert node.detectors[0].closed == 1


def test_twenty_cycles_leave_no_thread_no_topic_no_model_and_no_memory_behind(node):
    def cycle():
        for transition in ("configure", "activate", "deactivate", "cleanup"):
            assert getattr(node, f"trigger_{transition}")() == SUCCESS

    cycle()
    process = psutil.Process()
    before = (threading.active_count(), len(list(node.publishers)), len(list(node.subscriptions)))
    memory, files = process.memory_info().rss, process.num_fds()
    for _ in range(20):
        cycle()
    models = [weakref.ref(detector) for detector in node.detectors]
    assert [model().closed for model in models] == [1] * 21
    node.detectors.clear()
    gc.collect()
    assert not any(model() for model in models)
    assert (threading.active_count(), len(list(node.publishers)), len(list(node.subscriptions))) == before
    assert process.num_fds() <= files + 1
    assert process.memory_info().rss - memory < 16 * 2**20


def test_it_still_works_after_twenty_cycles_over_dds(launch):  # noqa: F811
    bench: Bench = launch(partial(DetectionNode, lambda parameters: FakeDetector()))
    client = LifecycleClient(bench)
    for _ in range(20):
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            client.change(transition)
    bench.wait_until_connected()
    bench.good_cloud_passes()


def test_a_failed_start_is_told_in_the_diagnostics_and_the_node_lives(launch):  # noqa: F811
    bench = launch(partial(DetectionNode, fail), active=False)
    wait_for(lambda: bench.got["diagnostics"])
    values = bench.diagnosis()
    assert values["message"] == "configure failed: on purpose"
    assert values["state"] == "unconfigured"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"torn"), "model.onnx"),
        (lambda folder: (folder / "model.yaml").write_text("task: ["), "model.yaml"),
    ],
)
def test_missing_or_torn_weights_fail_the_start_until_they_are_mended(context, tmp_path, spoil, text):  # noqa: F811
    weights = shutil.copytree(WEIGHTS / "compact", tmp_path / "mine")
    spoil(weights)
    given = overrides(autostart=False, variant=str(weights), backend="onnxruntime", threads=1)
    node = DetectionNode(context=context, parameter_overrides=given)
    assert node.trigger_configure() == FAILURE
    assert text in node.transition_error
    assert node.state == "unconfigured"
    shutil.copytree(WEIGHTS / "compact", weights, dirs_exist_ok=True)
    assert node.trigger_configure() == SUCCESS
    node.destroy_node()


class LifecycleClient:
    """Asks for transitions as `ros2 lifecycle set` does."""

    def __init__(self, bench):
        from lifecycle_msgs.srv import ChangeState

        self._request = ChangeState.Request()
        name = f"{bench.node.get_fully_qualified_name()}/change_state"
        self._client = bench.client.create_client(ChangeState, name)
        assert self._client.wait_for_service(10)

    def change(self, label):
        self._request.transition.label = label
        future = self._client.call_async(self._request)
        wait_for(future.done)
        assert future.result().success


def start_process(*arguments):
    script = Path(__file__).with_name("fake_detection_node.py")
    command = [sys.executable, str(script), "--ros-args", *arguments]
    return subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_process_ends_in_order_when_told_twice(context, number):  # noqa: F811
    from lifecycle_msgs.srv import GetState
    from rclpy.node import Node

    name = f"told_twice_{os.getpid()}_{number}"  # no other node can answer for it
    process, client = start_process("-r", f"__node:={name}"), Node("watcher", context=context)
    assert client.create_client(GetState, f"/{name}/get_state").wait_for_service(30)
    process.send_signal(number)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    client.destroy_node()
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_the_process_names_every_invalid_parameter_and_ends_with_status_two():
    process = start_process("-p", "nms_iou:=7.0", "-p", "backend:=magic", "-p", "threads:=-3", "-p", "max_age:=.nan")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert all(name in errors for name in ("nms_iou", "backend is 'magic'", "threads", "max_age"))
    assert "Traceback" not in errors
