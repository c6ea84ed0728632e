# SPDX-License-Identifier: Apache-2.0
"""What runs a node's callbacks: an executor on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class BackgroundExecutor:
    """Spins one node on a thread; the thread that made it stays free, for signals above all.

    Not rclpy's EventsExecutor, although it is lighter: Kilted's (rclpy 9.1.2) was seen to stop for ever inside
    `publish` when one thread published what another thread of the process listened to, and our results are published
    from a worker thread.
    """

    def __init__(self, node: Node, name: str, on_end: Callable[[], None] = lambda: None) -> None:
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._on_end = on_end
        self.outcome: Future[None] = Future()
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the spinning and waits for the callback in hand. May be called again."""
        self._executor.shutdown()
        self._thread.join()

    def _spin(self) -> None:
        try:
            self._executor.spin()
            self.outcome.set_result(None)
        except (ExternalShutdownException, ShutdownException):
            self.outcome.set_result(None)
        except BaseException as error:  # noqa: BLE001  # handed on through the future
            self.outcome.set_exception(error)
        self._on_end()
