# SPDX-License-Identifier: Apache-2.0
"""The life of a node process: parameters checked, callbacks on a thread, one orderly end however often it is asked."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions

from perception_nodes.executors import BackgroundExecutor
from perception_nodes.node import PerceptionNode
from perception_nodes.parameters import InvalidParameters


def run_node(make: Callable[[], PerceptionNode[Any, Any]], arguments: Sequence[str] | None = None) -> int:
    """Runs a node until SIGINT or SIGTERM; returns the exit status: 0, or 2 where its parameters are not valid.

    The main thread only waits for signals, so the context is still valid while the node stops, and a second Ctrl-C,
    which launch and a terminal may both send, changes nothing.
    """
    prepare_middleware()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=None if arguments is None else list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    try:
        return _spin(make(), stop)
    except InvalidParameters as error:
        print(f"The parameters are not valid: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()


def prepare_middleware() -> None:
    """Lets Fast DDS send from a thread of its own, unless the user chose otherwise; call it before `rclpy.init`.

    A synchronous publish makes the worker wait for the slowest local reader.
    """
    os.environ.setdefault("RMW_FASTRTPS_PUBLICATION_MODE", "ASYNCHRONOUS")


def _spin(node: PerceptionNode[Any, Any], stop: threading.Event) -> int:
    executor = BackgroundExecutor(node, "callbacks", on_end=stop.set)
    stop.wait()
    executor.stop()
    node.destroy_node()
    executor.outcome.result()
    return 0
