# SPDX-License-Identifier: Apache-2.0
"""Services that may take their time: a call waits on a thread of its own, so the node's callbacks never do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTime
from contextlib import contextmanager, suppress

from rclpy.node import Node
from std_srvs.srv import Trigger

from perception_nodes.errors import NoResult
from perception_nodes.executors import BackgroundExecutor


class TriggerServices:
    """std_srvs/Trigger services of a node: each is a function that returns its message, or raises why it failed."""

    def __init__(self, owner: Node, actions: Mapping[str, Callable[[], str]]) -> None:
        self._node = Node(
            f"{owner.get_name()}_services",
            namespace=owner.get_namespace(),
            context=owner.context,
            use_global_arguments=False,  # else a remapped node name would name this one too
            start_parameter_services=False,
        )
        for name, action in actions.items():
            self._serve(owner.resolve_service_name(name), action)
        self._executor = BackgroundExecutor(self._node, "services")

    def close(self) -> None:
        """Waits for the call in hand, then ends the thread and the node."""
        self._executor.stop()
        self._node.destroy_node()

    def _serve(self, name: str, action: Callable[[], str]) -> None:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                response.message, response.success = action(), True
            except Exception as error:  # noqa: BLE001  # who calls must get an answer
                response.message, response.success = str(error) or type(error).__name__, False
            return response

        self._node.create_service(Trigger, name, answer)


class Requests:
    """Calls that wait for what becomes of the next message, on other threads than the one that works on it."""

    def __init__(self) -> None:
        self._waiting: deque[Future[str]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(self, timeout: float) -> str:
        """The next answer. Raises NoResult where none comes within `timeout` seconds, and what the work raised."""
        request: Future[str] = Future()
        self._waiting.append(request)
        try:
            return request.result(timeout)
        except OutOfTime:
            raise NoResult(f"nothing came to work on within {timeout:g} s") from None
        finally:
            with suppress(ValueError):  # it was answered, and is no longer there
                self._waiting.remove(request)

    @contextmanager
    def answered(self, say: Callable[[], str]) -> Iterator[None]:
        """All who wait get `say()` after the work within, or the exception that ends it."""
        try:
            yield
        except Exception as error:
            self.refuse(error)
            raise
        while self._waiting:
            self._waiting.popleft().set_result(say())

    def refuse(self, error: Exception) -> None:
        """All who wait get this exception."""
        while self._waiting:
            self._waiting.popleft().set_exception(error)

    def cancel(self) -> None:
        """Nobody shall wait any longer."""
        self.refuse(NoResult("the node is no longer active"))
